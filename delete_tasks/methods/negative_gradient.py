"""Negative gradient: training backwards on the forget set."""

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import UnlearnHook
from .gradients import label_losses


@HOOKS.register_module()
class NegativeGradient(UnlearnHook):
    """Minus the cross entropy to the label where that is forgotten (gradient ascent).

    The rest of the locations carry no weight. ``unlearn = dict(type='NegativeGradient', classes=['car'],
    optimizer=dict(type='AdamW', lr=1e-5))``. The baseline "negative gradient" (gradient ascent) of Golatkar et al.,
    "Eternal Sunshine of the Spotless Net" (CVPR 2020). The loss has no lower bound: too many steps or too high a rate
    ruin the model.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    uses_retain_set = False
    rate = 1e-5

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        weight = self.forgotten_weight(inputs, weight)
        losses = label_losses(student, inputs.labels)  # type: ignore[arg-type]
        return -(losses * weight).sum(), {}, weight.sum()
