"""Adversarial inputs: small changes of an input that change a frozen teacher's predictions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from ..model.loss_point import LossInputs, LossPoint
from ..model.teacher import Frozen
from .base import UnlearnHook


class AdversarialHook(UnlearnHook):
    """Base of methods that change inputs by the gradient of the teacher's loss.

    Inputs are the batch that the model's forward takes as ``inputs``, floating-point ``(N, ...)`` and already normalised.
    Distances are in the same units: a bound of 0.1 is 0.1 of the normalised values.
    """

    needs_labels = True
    uses_retain_set = False
    watches = False

    _first: Callable[[], LossInputs] | None = None  # reads the loss inputs of a first head

    def _catch(self, point: LossPoint, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self._first is None:
            self._first = partial(point.read, outputs, *args, **kwargs)
        return super()._catch(point, outputs)

    def inputs_of(self, kwargs: Mapping[str, Any]) -> Tensor:
        """Return the batch's inputs; refuse a model that takes no floating-point tensor as ``inputs``."""
        inputs = kwargs.get("inputs")
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise RequestError(
                f"{type(self).__name__} changes the model's floating-point tensor 'inputs', and got {type(inputs).__name__}; "
                "use type='DELETE'"
            )
        return inputs.detach()

    def gradient(
        self, frozen: Frozen, args: Any, kwargs: Mapping[str, Any], inputs: Tensor, loss: Callable[[LossInputs], Tensor]
    ) -> Tensor:
        """Compute the gradient of a 0-d loss of the teacher's first head, of the shape of ``inputs``."""
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            value = loss(self.outputs(frozen, args, kwargs, inputs))
            return torch.autograd.grad(value, inputs)[0]

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
