"""Adversarial inputs: small changes of an input that change a frozen teacher's predictions."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RequestError
from ..model.loss_point import LossInputs, LossPoint, is_loss
from ..model.teacher import Frozen
from .base import UnlearnHook
from .gradients import label_losses

Targets = Callable[[Any, int], Tensor]  # from the labels and the number of classes
Gradient = Callable[[Tensor, Targets], Tensor]  # of the cross entropy to the targets, at inputs


class AdversarialHook(UnlearnHook):
    """Base of methods that change inputs by the gradient of the teacher's loss; the teacher reads the changed inputs.

    Inputs are the batch that the model's forward takes as ``inputs``, floating-point ``(N, ...)`` and already normalised.
    Distances are in the same units: a bound of 0.1 is 0.1 of the normalised values.
    """

    needs_labels = True
    uses_retain_set = watches = False
    student_reads_change = False  # the student, too, reads the changed inputs

    _first: Callable[[], LossInputs] | None = None  # reads the loss inputs of a first head

    def _catch(self, point: LossPoint, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self._first is None:
            self._first = partial(point.read, outputs, *args, **kwargs)
        return super()._catch(point, outputs)

    @abstractmethod
    def change(self, inputs: Tensor, gradient: Gradient) -> Tensor:
        """Change a batch's inputs, or return them; ``gradient(inputs, targets)`` is :meth:`gradient` of the teacher."""

    def _run_teacher(self, frozen: Frozen, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if not is_loss(args, kwargs):
            return None
        inputs = kwargs.get("inputs")
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise RequestError(
                f"{type(self).__name__} changes the model's floating-point tensor 'inputs', and got {type(inputs).__name__}; "
                "use type='DELETE'"
            )
        inputs = inputs.detach()
        changed = self.change(inputs, partial(self.gradient, frozen, args, kwargs))
        with torch.no_grad():
            self.outputs(frozen, args, kwargs, changed)  # caught here for location_loss
        return (args, {**kwargs, "inputs": changed}) if self.student_reads_change and changed is not inputs else None

    def gradient(
        self, frozen: Frozen, args: Any, kwargs: Mapping[str, Any], inputs: Tensor, targets: Targets
    ) -> Tensor:
        """Compute the gradient, of the shape of ``inputs``, of the teacher's cross entropy to ``targets`` at the forgotten
        locations, summed, of the first head."""
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            read = self.outputs(frozen, args, kwargs, inputs)
            logits = read.at_labels(read.logits[0])
            losses = label_losses(logits, targets(read.labels, logits.shape[1])) * self.forgotten_weight(read, None)
            return torch.autograd.grad(losses.sum(), inputs)[0]

    def outputs(self, frozen: Frozen, args: Any, kwargs: Mapping[str, Any], inputs: Tensor) -> LossInputs:
        """Run the teacher on other inputs, catch every head's outputs, and return the loss inputs of the first head."""
        self._caught.clear()
        self._first = None
        frozen.module(*args, **{**kwargs, "inputs": inputs})
        if self._first is None:
            raise RequestError(
                f"{type(self).__name__} needs a head that computes a loss, and none did; use type='DELETE'"
            )
        read, self._first = self._first, None
        return read()


def within(inputs: Tensor, like: Tensor) -> Tensor:
    """Clamp inputs to the range of each channel of ``like``, since their normalisation is unknown."""
    axes = [axis for axis in range(like.ndim) if axis != 1]
    return torch.maximum(torch.minimum(inputs, like.amax(axes, keepdim=True)), like.amin(axes, keepdim=True))
