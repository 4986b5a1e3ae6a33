"""Boundary shrink: cross entropy to the class nearest across the decision boundary."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..losses.masks import class_mask
from ..model.loss_point import LossInputs, is_loss
from ..model.teacher import Frozen
from ..request.ranges import number
from .adversarial import AdversarialHook, within
from .base import LossSums
from .gradients import label_losses


@HOOKS.register_module()
class BoundaryShrink(AdversarialHook):
    """Cross entropy to the nearest other class, across the decision boundary (CVPR 2023).

    ``unlearn = dict(type='BoundaryShrink', classes=['car'])``. Chen et al., "Boundary Unlearning" (arXiv 2303.11570), section
    4.1: the nearest class is the original's prediction for the input after one step of size ``bound`` along the sign of the
    gradient of its loss (FGSM). The authors' recipe: SGD at 1e-5 with momentum 0.9, 10 epochs in batches of 64, bound 0.1;
    here that is 780 steps, 10 epochs of 5,000 images. If the changed input is still predicted as a forgotten class, the
    paper's target is that class; here it is the likeliest retained one. Needs the forget set alone, with labels.

    Args:
        bound: Largest change of an input's value, in the units in which the model takes it.
        options: See :class:`UnlearnHook`.
    """

    rate = 1e-5

    def __init__(self, bound: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.bound = number("unlearn.bound", bound, 0, 1e3, above=True)

    def _run_teacher(self, frozen: Frozen, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        if not is_loss(args, kwargs):
            return
        inputs = self.inputs_of(kwargs)
        gradient = self.gradient(frozen, args, kwargs, inputs, self._label_loss)
        changed = within(inputs + self.bound * gradient.sign(), inputs)
        with torch.no_grad():
            self.outputs(frozen, args, kwargs, changed)  # caught here for location_loss

    def _label_loss(self, inputs: LossInputs) -> Tensor:
        weight = self.forgotten_weight(inputs, None)
        return (label_losses(inputs.at_labels(inputs.logits[0]), inputs.labels) * weight).sum()

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        forgotten = class_mask(self.ids, student.shape[1], student.ndim, student.device)
        nearest = teacher.masked_fill(forgotten, -torch.inf).argmax(1)
        return (label_losses(student, nearest) * weight).sum(), {}, weight.sum()
