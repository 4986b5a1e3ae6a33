"""Watch of a cleaning run: a hook that measures the backdoor and the damage to the model on held-out samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from delete_images.models.classifier import predict_batch
from delete_images.opened import ImageBatches
from delete_tasks.methods.delete import DELETE
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.ranges import number, whole
from delete_tasks.task import Run

LEAST = 40  # held-out retain samples, of which one in seven hardly differs by chance


@dataclass(frozen=True)
class Reading:
    """Reading of the watch at one step, in percent; None without samples."""

    step: int  # optimizer steps done
    to_target: float  # held-out poisoned samples that are predicted as the target
    agreement: float | None  # held-out retain samples (or trigger-free views) predicted as the original predicts them
    # Mean probability of the target on those, as a share of the original's. It falls if the model unlearns the class itself.
    target_kept: float | None


def judge(reading: Reading, limits: Mapping[str, float]) -> tuple[str, str]:
    """Judge a reading, with the reason: 'damaged' (first, as a ruined model predicts no target), 'cleaned' or 'not cleaned'."""
    if reading.agreement is None:
        return "damaged", "no trigger-free view of the poisoned samples was found, so damage cannot be ruled out"
    if reading.agreement < limits["agreement"]:
        return "damaged", f"it agrees with the original on {reading.agreement:.1f}% (limit {limits['agreement']:g}%)"
    kept = reading.target_kept
    if kept is not None and kept < limits["target_kept"]:
        return "damaged", f"it keeps {kept:.1f}% of the target's probability (limit {limits['target_kept']:g}%)"
    if reading.to_target > limits["to_target"]:
        limit = f"(limit {limits['to_target']:g}%)"
        return "not cleaned", f"{reading.to_target:.1f}% of poisoned samples are still predicted as the target {limit}"
    return "cleaned", "within the watch's limits"


@HOOKS.register_module()
class BackdoorWatch(Hook):
    """Hook that reads the held-out samples every few steps, and judges the last reading.

    A model that is not 'cleaned' is not published, unless ``force``. A number out of range is refused.

    Args:
        interval: Optimizer steps between readings.
        to_target: Highest percentage of poisoned samples at the target in a cleaned model.
        agreement: Lowest agreement with the original, in percent.
        target_kept: Lowest share of the target's probability, in percent.
        restart: Agreement, in percent, below which a reading in the first half of the run sets DELETE's weights back to the
            original's and lowers the rate, see :class:`delete_tasks.methods.guard.RetentionGuard`; 0 never does, nor do fewer
            than :data:`LEAST` held-out samples.
        force: Publish whatever the verdict.
    """

    priority = "LOW"  # after the method's own hook has put the loss back, before the checkpoint hook publishes

    def __init__(
        self,
        interval: int = 10,
        to_target: float = 5.0,
        agreement: float = 85.0,
        target_kept: float = 50.0,
        restart: float = 0.0,
        force: bool = False,
    ) -> None:
        whole("interval", interval, 1, 10**9)
        self.interval, self.force = interval, force
        self.limits = {"to_target": to_target, "agreement": agreement, "target_kept": target_kept}
        self.restart = restart
        for name, limit in {**self.limits, "restart": restart}.items():
            number(name, limit, 0, 100)
        self.readings: list[Reading] = []  # in order, the first of the original
        self.verdict: str | None = None  # see judge(); None before the end
        self.reason: str | None = None

    def before_train(self, runner: Run) -> None:
        dataset = runner.train_dataloader.dataset
        dataset = getattr(dataset, "dataset", dataset)
        if dataset.paste:
            used = "pasted on retain samples" if dataset.estimated else "not used"
            runner.logger.info(f"Estimated trigger: {dataset.reach}% of retain samples to the target, {used}")
        self.target, self._dataset = dataset.target, dataset
        self._poisoned, self._retain = (
            [inputs for inputs, _ in ImageBatches(preprocessing=dataset.spec.preprocessing)(data)]
            for data in (dataset.held_poisoned, dataset.held_retain)
        )
        # The original is the teacher; methods without one start from it.
        original = runner.teacher if runner.method.needs_teacher else runner.unwrapped_model
        self._before = _logits(original, self._retain)
        self.readings = [self._read(original, 0)]

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step, partly = divmod(batch_idx + 1, runner.accumulation)
        if partly or step % self.interval:
            return
        reading = self._read(runner.unwrapped_model, step)
        self.readings.append(reading)
        agreement = "-" if reading.agreement is None else f"{reading.agreement:.1f}%"
        runner.logger.info(f"Watch, step {step}: {reading.to_target:.1f}% at the target, agreement {agreement}")
        restarts = isinstance(runner.method, DELETE) and 2 * step <= runner.recipe.steps
        known = restarts and len(self._dataset.held_retain) >= LEAST
        if known and reading.agreement is not None and reading.agreement < self.restart:
            runner.method.retention.restart(runner, step, reading.agreement / 100)

    def after_train(self, runner: Run) -> None:
        step = runner.iter // runner.accumulation
        if self.readings[-1].step != step:
            self.readings.append(self._read(runner.unwrapped_model, step))
        facts, dataset = runner.outcome.facts, self._dataset
        for name, held in ((dataset.forget_name, dataset.held_poisoned), (dataset.retain_name, dataset.held_retain)):
            facts.read(f"{name}, set aside", "read to judge the model while it trained", len(held))
        if dataset.estimated is not None:
            use = "the trigger was estimated from them, and pasted on retain samples"
            facts.read(dataset.forget_name, use, len(dataset.poisoned))
        self.verdict, self.reason = judge(self.readings[-1], self.limits)
        if self.verdict != "cleaned" and not self.force:
            runner.outcome.withheld = f"the watch calls the model {self.verdict}: {self.reason}"
            if self.verdict == "damaged":
                runner.outcome.withheld += (
                    ". Give samples without a trigger (--retain), or more of them; a large network also needs a lower rate: "
                    f"try a tenth of {runner.recipe.optimizer.get('lr')}"
                )

    def _read(self, model: Any, step: int) -> Reading:
        poisoned, retain = _logits(model, self._poisoned), _logits(model, self._retain)
        agreement = target_kept = None
        if retain is not None and self._before is not None:
            agreement = _percent((retain.argmax(1) == self._before.argmax(1)).float().mean())
            before, after = (float(logits.softmax(1)[:, self.target].mean()) for logits in (self._before, retain))
            target_kept = _percent(after / before) if before > 0 else None
        to_target = 0.0 if poisoned is None else _percent((poisoned.argmax(1) == self.target).float().mean())
        # One reading for all processes, or one might restart without the others.
        reading = [Reading(step, to_target, agreement, target_kept)]
        broadcast_object_list(reading)
        return reading[0]

    def summary(self) -> dict[str, Any]:
        """Summarise the watch for results.json."""
        readings = [asdict(reading) for reading in self.readings]
        return {"verdict": self.verdict, "reason": self.reason, "limits": self.limits, "readings": readings}


def _logits(model: Any, batches: list[Tensor]) -> Tensor | None:
    with in_eval_mode(model):
        return torch.cat([predict_batch(model, batch).cpu() for batch in batches]) if batches else None


def _percent(share: float | Tensor) -> float:
    return round(100 * float(share), 2)
