"""Random label: cross entropy of forgotten samples to another class, drawn at random."""

from typing import Any

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import LossSums, UnlearnHook
from .gradients import label_losses, random_retained


@HOOKS.register_module()
class RandomLabel(UnlearnHook):
    """Cross entropy to a random retained class at forgotten locations.

    The rest of the locations carry no weight. ``unlearn = dict(type='RandomLabel', classes=['car'])``. The class is drawn
    anew in each step, from the run's seed. The baseline "random label" of Golatkar et al., "Eternal Sunshine of the
    Spotless Net" (CVPR 2020), with the draw restricted to retained classes. It reads labels and has no teacher, so
    the original's predictions of other classes are not used.
    """

    needs_teacher = uses_retain_set = False
    needs_labels = True
    rate = 5e-5

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        target = random_retained(tuple(weight.shape), student.shape[1], self.ids, student.device)
        return (label_losses(student, target) * weight).sum(), {}, weight.sum()
