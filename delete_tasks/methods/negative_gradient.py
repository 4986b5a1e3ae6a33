"""Negative gradient: gradient ascent on the forget set."""

from typing import Any

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import LossSums, UnlearnHook
from .gradients import label_losses


@HOOKS.register_module()
class NegativeGradient(UnlearnHook):
    """Minus the cross entropy to the label at forgotten locations (gradient ascent).

    The rest of the locations carry no weight. ``unlearn = dict(type='NegativeGradient', classes=['car'],
    optimizer=dict(type='AdamW', lr=1e-5))``. The baseline "negative gradient" (gradient ascent) of Golatkar et al.,
    "Eternal Sunshine of the Spotless Net" (CVPR 2020). The loss has no lower bound: too many steps or too high a rate
    ruin the model.
    """

    needs_teacher = uses_retain_set = False
    needs_labels = True
    rate = 1e-5

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        return -(label_losses(student, inputs.labels) * weight).sum(), {}, weight.sum()
