"""Fine-tuning: the baseline that continues training, on a labelled retain set alone."""

from typing import Any

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import LossSums, UnlearnHook
from .gradients import label_losses, retain_weight


@HOOKS.register_module()
class FineTune(UnlearnHook):
    """Cross entropy to the labels of the retain set; the forget set carries no weight.

    ``unlearn = dict(type='FineTune', classes=['airplane'])``; see "Fine-Pruning" (arXiv 1805.12185), section 4. It takes a
    dataset that marks the samples of a labelled retain set; label -1 means none.
    """

    needs_teacher = False
    needs_labels = True
    needs_retain_set = retain_labels = True
    forget_use = "read without weight in the loss"
    smoothing = 0.0  # of the labels

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        retain = retain_weight(type(self).__name__, inputs)
        return (label_losses(student, inputs.labels, self.smoothing) * retain).sum(), {}, retain.sum()
