"""Boundary shrink: cross entropy to the class nearest across the decision boundary."""

from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor

from ..losses.masks import class_mask
from ..model.loss_point import LossInputs
from ..request.ranges import number
from .adversarial import AdversarialHook, Gradient, within
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

    def change(self, inputs: Tensor, gradient: Gradient) -> Tensor:
        return within(inputs + self.bound * gradient(inputs, lambda labels, _: labels).sign(), inputs)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        forgotten = class_mask(self.ids, student.shape[1], student.ndim, student.device)
        nearest = teacher.masked_fill(forgotten, -torch.inf).argmax(1)
        return (label_losses(student, nearest) * weight).sum(), {}, weight.sum()
