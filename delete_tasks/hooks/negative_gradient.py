"""Negative gradient: training backwards on what is to be forgotten."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor

from ..loss_point import LossInputs
from .defaults import Recipes
from .random_label import forgotten_weight
from .unlearn import UnlearnHook


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
    recipes: ClassVar[Recipes] = {"faces": {"steps": 60}}

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        weight = forgotten_weight("NegativeGradient", inputs, self.ids, weight)
        # Labels outside the classes (void) carry no weight; any valid class stands in for them.
        target = inputs.labels.clamp(0, student.shape[1] - 1).long()  # type: ignore[union-attr]
        losses = F.cross_entropy(student.float(), target, reduction="none")
        return -(losses * weight).sum(), {}, weight.sum()
