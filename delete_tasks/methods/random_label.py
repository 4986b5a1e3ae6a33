"""Random label: each sample of a forgotten class is taught as another class, drawn at random."""

from mmengine.registry import HOOKS
from torch import Tensor

from ..model.loss_point import LossInputs
from .base import UnlearnHook
from .gradients import label_losses, random_kept


@HOOKS.register_module()
class RandomLabel(UnlearnHook):
    """Cross entropy to a random kept class where the label is forgotten.

    The rest of the locations carry no weight. ``unlearn = dict(type='RandomLabel', classes=['car'])``. The class is drawn
    anew in each step, from the run's seed. The baseline "random label" of Golatkar et al., "Eternal Sunshine of the
    Spotless Net" (CVPR 2020), with the draw restricted to classes that are kept. It reads labels and has no teacher, so
    nothing tells it what the original says of other classes.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    rate = 5e-5
    uses_retain_set = False

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        weight = self.forgotten_weight(inputs, weight)
        target = random_kept(tuple(weight.shape), student.shape[1], self.ids, student.device)
        return (label_losses(student, target) * weight).sum(), {}, weight.sum()
