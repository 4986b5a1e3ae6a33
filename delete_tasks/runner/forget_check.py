"""Check without labels, at the end of each run, that the predictions on the forget set have changed."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..errors import UnsupportedModelError
from ..evaluation.functional import percent
from ..evaluation.metrics import MOST_STILL
from ..fileio.processes import together
from ..fileio.seeds import CHECK_STREAM, seed_all
from ..losses.masks import forgotten_mass, is_forgotten
from ..model.loss_point import LossInputs, LossPoint, swap
from ..model.modes import in_eval_mode
from ..task import Run, Task

SAMPLES, BATCHES = 256, 8  # read at most, by each process
# Least share of the locations that the original assigns to the forgotten classes to be assigned to others (or of the probability,
# if the original assigns none). A ResNet-20 that only distils to itself: 0.5% in 150 steps.
LEAST_CHANGE = 0.05


class ForgetCheckHook(Hook):
    """Comparison of predictions on the forget set before and after the run; withholds a model that has not changed."""

    priority = 80  # after other hooks that may withhold the model, before it is published

    def after_train(self, runner: Run) -> None:
        if not runner.task.forget_data(runner.selection.dataset).checked:
            return
        check = runner.outcome.forget_check = check_forgotten(runner)
        if not check["passed"] and runner.outcome.withheld is None:
            if check["still"] is None:
                result = "the original predicts the classes nowhere, and their probability has not fallen"
            else:
                result = f"{check['still']:g}% of the original's predictions of the forgotten classes remain"
            runner.outcome.withheld = (
                f"it has forgotten nothing: on {check['samples']} samples of the forget set, {result}. "
                f"{_advice(runner.recipe.steps, runner.recipe.optimizer)}"
            )


def check_forgotten(runner: Run) -> dict[str, Any]:
    """Compare the student's predictions with the original's on the first samples of the forget set, as the run reads them.
    Locations are those in the loss: no padding, no retain set. Labels are not read. All processes call this; each reads a part.
    Return numbers of ``samples`` and ``locations``; the percentage of the locations that are assigned to the forgotten classes,
    ``before`` and ``after``, and of the former that ``still`` are (None if there were none); the percentage of all whose
    prediction has ``changed``; the forgotten classes' mean probability ``probability_before`` and ``_after``; ``passed``."""
    sums = _process_sums(runner)
    all_reduce(sums)
    samples, locations, before, after, still, changed, mass_before, mass_after = sums.tolist()
    left = still / before if before else mass_after / mass_before if mass_before else 1.0
    return {
        "samples": int(samples),
        "locations": int(locations),
        "before": percent(before, locations),
        "after": percent(after, locations),
        "still": percent(still, before),
        "changed": percent(changed, locations),
        "probability_before": mass_before / locations if locations else None,
        "probability_after": mass_after / locations if locations else None,
        "passed": left <= 1 - LEAST_CHANGE,
    }


@together
def _process_sums(runner: Run) -> Tensor:
    """Compute the number of samples and :func:`_sums` of this process's part."""
    sums = torch.zeros(8, dtype=torch.float64)
    networks, loader = (runner.teacher, runner.unwrapped_model), runner.train_dataloader
    rank, world = get_dist_info()
    most = min(len(loader.dataset), world * min(SAMPLES, BATCHES * loader.batch_size))
    positions = range(rank, most, world)
    with in_eval_mode(*networks):
        for first in range(0, len(positions), loader.batch_size):
            items = [loader.dataset.forgotten(position) for position in positions[first : first + loader.batch_size]]
            seed_all(runner.seed, CHECK_STREAM, first, rank)
            inputs = runner.unwrapped_model.data_preprocessor(loader.collate_fn(items), True)
            original, student = (predictions(runner.task, network, inputs) for network in networks)
            logits = [
                runner.task.decisions(network, each.at_labels(each.logits[0]).float())
                for network, each in zip(networks, (original, student), strict=True)
            ]
            sums += torch.cat([torch.tensor([len(items)]), _sums(logits, student, runner.selection.forget_ids).cpu()])
    return sums


def not_forgotten(check: Mapping[str, Any] | None, steps: int, optimizer: Mapping[str, Any]) -> str | None:
    """Describe a run after which more than :data:`MOST_STILL` is predicted, by :func:`check_forgotten`; None for others."""
    if check is None or check.get("still") is None or check["still"] <= MOST_STILL:
        return None
    return (
        f"After training, {check['still']:.1f}% of the original's predictions of the forgotten classes, on "
        f"{check['samples']} samples of the forget set, remain. {_advice(steps, optimizer)}"
    )


def _advice(steps: int, optimizer: Mapping[str, Any]) -> str:
    return f"Take more steps than {steps}, or a higher learning rate than {optimizer.get('lr')}"


def predictions(task: Task, network: nn.Module, inputs: Any, gradients: bool = False) -> LossInputs:
    """Compute the inputs of the loss of the network's predicting head."""
    caught: list[tuple[LossPoint, LossInputs]] = []

    def catch(point: LossPoint, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        caught.append((point, point.read(*args, **kwargs)))
        return {}

    with ExitStack() as undo, torch.set_grad_enabled(gradients):
        for point in task.loss_points(network):
            undo.callback(swap(point, partial(catch, point)))
        if isinstance(inputs, dict):
            network(**inputs, mode="loss")
        else:
            network(*inputs, mode="loss")
    classifier: Any = None
    if len(caught) > 1:
        with suppress(UnsupportedModelError):
            classifier = task.classifier(network)[1]
    return next((found for point, found in caught if classifier in point.module.modules()), caught[0][1])


def _sums(logits: Sequence[Tensor], student: LossInputs, ids: Sequence[int]) -> Tensor:
    """Compute sums over locations: number; forgotten before, after, both; changed prediction; probability before, after."""
    used = torch.ones(logits[0].shape[:1] + logits[0].shape[2:], dtype=torch.bool, device=logits[0].device)
    if student.valid is not None:
        used &= student.valid
    if student.retain is not None:
        used &= ~student.retain
    predicted = [values.argmax(1) for values in logits]
    before, after = (is_forgotten(classes, ids) & used for classes in predicted)
    masses = [(forgotten_mass(values, ids) * used).sum() for values in logits]
    masks = (used, before, after, before & after, (predicted[0] != predicted[1]) & used)
    return torch.stack([value.double() for value in (*(mask.sum() for mask in masks), *masses)])
