"""Fine-tuning: the baseline that only trains on, on a retain set with labels."""

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import UnlearnHook
from .gradients import label_losses, retain_weight


@HOOKS.register_module()
class FineTune(UnlearnHook):
    """Cross entropy to the labels of the retain set; the forget set carries no weight.

    ``unlearn = dict(type='FineTune', classes=['airplane'])``; see "Fine-Pruning" (arXiv 1805.12185), section 4. It takes a
    dataset that marks samples of a retain set, with labels; locations labelled -1 have none.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    needs_retain_set = True

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        chosen = retain_weight("FineTune", inputs)
        losses = label_losses(student, inputs.labels)  # type: ignore[arg-type]
        return (losses * chosen).sum(), {}, chosen.sum()
