"""Adversarial inputs: small changes of an input that change what a frozen teacher says of it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RequestError
from ..model.loss_point import LossInputs, LossPoint
from ..model.teacher import Frozen
from ..task import Run
from .base import UnlearnHook


class AdversarialHook(UnlearnHook):
    """Base of methods that look at the teacher's loss as a function of its input.

    The input is what the model's forward takes as ``inputs``, a floating-point batch ``(N, ...)``, prepared as the model takes
    it; so are all distances: a bound of 0.1 is 0.1 of the normalised values.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_labels = True
    uses_retain_set = False
    watches = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._points: dict[str, LossPoint] = {}
        self._listens = False  # to what the first head is given: while `outputs` runs, so that nothing is held on to
        self._first: tuple[str, tuple[Any, ...], Mapping[str, Any]] | None = (
            None  # loss point, and what it was called with
        )

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        self._points = {point.name: point for point in runner.task.loss_points(model)}

    def _catch(self, name: str, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self._listens and self._first is None:
            self._first = (name, (outputs, *args), kwargs)
        return super()._catch(name, outputs, *args, **kwargs)

    def inputs_of(self, kwargs: Mapping[str, Any]) -> Tensor:
        """Select the batch's inputs.

        Raises:
            RequestError: The model does not take one as ``inputs``.
        """
        inputs = kwargs.get("inputs")
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise RequestError(
                f"{type(self).__name__} changes the model's input, a floating-point tensor under 'inputs', and found "
                f"{type(inputs).__name__}; use type='DELETE'"
            )
        return inputs.detach()

    def gradient(
        self, frozen: Frozen, args: Any, kwargs: Mapping[str, Any], inputs: Tensor, loss: Callable[[LossInputs], Tensor]
    ) -> Tensor:
        """Compute the gradient, of the shape of ``inputs``, of a loss of the teacher's predicting head, 0-d."""
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            value = loss(self.outputs(frozen, args, kwargs, inputs))
            return torch.autograd.grad(value, inputs)[0]

    def outputs(self, frozen: Frozen, args: Any, kwargs: Mapping[str, Any], inputs: Tensor) -> LossInputs:
        """Compute what the teacher's first head computes its loss from, for other inputs; every head's outputs are caught."""
        self._caught.clear()
        self._first, self._listens = None, True
        frozen.module(*args, **{**kwargs, "inputs": inputs})
        self._listens = False
        if self._first is None:
            raise RequestError(f"{type(self).__name__} found no head that computes a loss; use type='DELETE'")
        (name, given, named), self._first = self._first, None
        return self._points[name].read(*given, **named)


def within(inputs: Tensor, like: Tensor) -> Tensor:
    """Inputs clamped to the range of each channel of ``like``: there is no telling how they were normalised."""
    axes = [axis for axis in range(like.ndim) if axis != 1]
    return torch.maximum(torch.minimum(inputs, like.amax(axes, keepdim=True)), like.amin(axes, keepdim=True))
