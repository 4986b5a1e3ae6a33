"""Boundary shrink: cross entropy to the class nearest across the decision boundary."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError
from ..losses.masks import class_mask
from ..model.loss_point import LossInputs, LossPoint, is_loss
from ..request.ranges import number
from .base import LossSums, UnlearnHook
from .gradients import label_losses


@HOOKS.register_module()
class BoundaryShrink(UnlearnHook):
    """Cross entropy to the nearest other class, across the decision boundary (CVPR 2023).

    ``unlearn = dict(type='BoundaryShrink', classes=['car'])``. Chen et al., "Boundary Unlearning" (arXiv 2303.11570), section
    4.1: the nearest class is the original's prediction for the input after one step of size ``bound`` along the sign of the
    gradient of its loss (FGSM). The authors' recipe: SGD at 1e-5 with momentum 0.9, 10 epochs in batches of 64, bound 0.1;
    here that is 780 steps, 10 epochs of 5,000 images. If the changed input is still predicted as a forgotten class, the
    paper's target is that class; here it is the likeliest retained one. Needs the forget set alone, with labels.

    Args:
        bound: Largest change of an input's value, in the units in which the model takes it: the batch that its forward takes as
            ``inputs``, floating-point ``(N, ...)`` and already normalised.
        options: See :class:`UnlearnHook`.
    """

    needs_labels = True
    uses_retain_set = watches = False
    rate = 1e-5

    _first: LossInputs | None = None  # of the first head

    def __init__(self, bound: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.bound = number("unlearn.bound", bound, 0, 1e3, above=True)

    def _catch(self, point: LossPoint, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self._first is None:
            self._first = point.read(outputs, *args, **kwargs)
        return super()._catch(point, outputs)

    def _run_teacher(self, teacher: nn.Module, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Run the teacher on changed inputs; the student reads the batch as it is."""
        if not is_loss(args, kwargs):
            return
        inputs = kwargs.get("inputs")
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            needed = "BoundaryShrink changes the model's floating-point tensor 'inputs'"
            raise RequestError(f"{needed}, and got {type(inputs).__name__}; use type='DELETE'")
        with torch.enable_grad():
            changing = inputs.detach().requires_grad_(True)
            read = self._outputs(teacher, args, kwargs, changing)
            losses = label_losses(read.at_labels(read.logits[0]), read.labels) * self.forgotten_weight(read, None)
            (gradient,) = torch.autograd.grad(losses.sum(), changing)
        with torch.no_grad():
            self._outputs(teacher, args, kwargs, within(inputs + self.bound * gradient.sign(), inputs))

    def _outputs(self, teacher: nn.Module, args: Any, kwargs: Mapping[str, Any], inputs: Tensor) -> LossInputs:
        """Run the teacher on other inputs, catch every head's outputs, and return the loss inputs of the first head."""
        self._caught.clear()
        self._first = None
        teacher(*args, **{**kwargs, "inputs": inputs})
        if self._first is None:
            raise RequestError("BoundaryShrink needs a head that computes a loss, and none did; use type='DELETE'")
        read, self._first = self._first, None  # which holds the batch
        return read

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        forgotten = class_mask(self.ids, student.shape[1], student.ndim, student.device)
        nearest = teacher.masked_fill(forgotten, -torch.inf).argmax(1)
        return (label_losses(student, nearest) * weight).sum(), {}, weight.sum()


def within(inputs: Tensor, like: Tensor) -> Tensor:
    """Clamp inputs to the range of each channel of ``like``, since their normalisation is unknown."""
    axes = [axis for axis in range(like.ndim) if axis != 1]
    return torch.maximum(torch.minimum(inputs, like.amax(axes, keepdim=True)), like.amin(axes, keepdim=True))
