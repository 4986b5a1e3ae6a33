"""Bad teacher: distillation to an untrained network on the forget set, to the original on the retain set."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..fileio.seeds import WEIGHTS_STREAM, seed_all
from ..model.loss_point import LossInputs, LossPoint, swap
from ..task import Run
from .base import LossSums, UnlearnHook
from .gradients import retain_weight
from .scrub import distillation

INCOMPETENT = "incompetent "  # prefix of a loss point's name for the untrained teacher's outputs


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """Copy a model with new random weights, and norms without statistics; modules without a reset keep their values."""
    network = copy.deepcopy(model)
    with torch.random.fork_rng():
        seed_all(seed, WEIGHTS_STREAM)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
    return network


@HOOKS.register_module()
class BadTeacher(UnlearnHook):
    """Distillation to an untrained network on the forget set, to the original on the retain set (AAAI 2023).

    ``unlearn = dict(type='BadTeacher', classes=['deer'])`` with a retain set, labelled or not. Chundawat et al., "Can Bad
    Teaching Induce Forgetting?" (arXiv 2205.08096), eq. 4: the divergence to the incompetent teacher on the
    forget set, to the competent one on the retain set, at temperature 1. The authors' recipe: Adam at 1e-4, norms training, one
    epoch over the forget set and 30% of the retain set; here it is 100 steps.
    """

    needs_labels = True
    needs_retain_set = True
    watches = False
    rate = 1e-4

    def prepare(self, runner: Run, model: nn.Module) -> None:
        self._bad = untrained(runner.teacher, runner.seed)
        self._outputs: Iterator[Tensor] = iter(())
        for point in runner.task.loss_points(self._bad):
            self._restore.append(swap(point, partial(self._catch, replace(point, name=INCOMPETENT + point.name))))

    def _run_teacher(self, teacher: nn.Module, module: nn.Module, args: Any, kwargs: Any) -> None:
        super()._run_teacher(teacher, module, args, kwargs)
        if self._caught:
            with torch.no_grad():
                self._bad(*args, **kwargs)

    def _loss(self, point: LossPoint, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        bad = self._caught[INCOMPETENT + point.name].popleft()
        self._outputs = iter(point.read(bad, *args, **kwargs).logits)
        return super()._loss(point, outputs, *args, **kwargs)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        forget = self.forgotten_weight(inputs, weight)
        retain = retain_weight("BadTeacher", inputs, labelled=False)
        bad = inputs.at_labels(next(self._outputs))
        losses = distillation(student, bad) * forget + distillation(student, teacher) * retain
        return losses.sum(), {}, (forget + retain).sum()
