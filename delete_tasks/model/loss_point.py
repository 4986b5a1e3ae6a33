"""Places at which a model computes its loss, and their inputs in the core's terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..losses._common import Axis
from ..losses.chunked import chunk_size

LEAST_ON_CPU = 3  # factor of the height from which one step is faster; with 2 resizing first is


@dataclass(frozen=True)
class Upsample:
    """Bilinear interpolation to the labels' size ``(H, W)`` before a loss, see :func:`torch.nn.functional.interpolate`."""

    size: tuple[int, int]
    align_corners: bool = False

    def __call__(self, logits: Tensor) -> Tensor:
        """Resize ``(N, C, h, w)`` to ``(N, C, H, W)``."""
        return interpolate(logits, self.size, mode="bilinear", align_corners=self.align_corners)

    def pays_in_one(self, logits: Tensor) -> bool:
        """Return True if :func:`delete_tasks.losses.masked_kl_div_upsampled` is faster than a resize and a loss: on a CPU, with
        enough locations between two rows. On a GPU it was not measured."""
        return logits.device.type == "cpu" and self.size[0] >= LEAST_ON_CPU * logits.shape[2]

    def classes(self, logits: Tensor) -> Tensor:
        """Predict the class at each location, int64 ``(N, H, W)``, a few rows at a time."""
        height, width = self.size
        down, across = (Axis(n, size, self.align_corners) for n, size in zip(logits.shape[2:], self.size, strict=True))
        labels = torch.empty(len(logits), *self.size, dtype=torch.int64, device=logits.device)
        rows = max(1, chunk_size(logits.device) // (logits.shape[1] * width))
        for sample, out in zip(logits.split(1), labels.split(1), strict=True):
            wide = across.take(sample, 3)
            for first in range(0, height, rows):
                strip = slice(first, first + rows)
                out[:, strip] = down.take(wide, 2, strip).argmax(1)
        return labels

    def nearest(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Compute ``interpolate(self(logits), size, mode="nearest-exact")`` without the larger map."""
        for dim, (large, small) in enumerate(zip(self.size, size, strict=True), 2):
            places = interpolate(torch.arange(large).view(1, 1, -1).double(), small, mode="nearest-exact").flatten()
            logits = Axis(logits.shape[dim], large, self.align_corners).take(logits, dim, places.long())
        return logits


@dataclass
class LossInputs:
    """Inputs of one call of a loss method, in the core's terms.

    Attributes:
        logits: Class logits ``(N, C, *locations)`` of each output that predicts classes, at the locations of the labels or,
            with ``upsample``, at a lower resolution.
        weights: Weight of each of these outputs in the model's own loss.
        class_free: Outputs without classes (boundaries); they take part with weight zero, so that each parameter has a
            gradient, as DistributedDataParallel requires.
        labels: ``(N, *locations)`` integers, or None if there are none.
        valid: ``(N, *locations)`` booleans, False on padding; None if every location counts.
        retain: Booleans broadcastable to ``(N, *locations)``, True at locations of a retain set: nothing is masked there,
            and the loss is plain distillation. None if there are no such locations.
        upsample: Resize from the logits' resolution to the labels'; None if they are the same.
    """

    logits: list[Tensor]
    weights: list[float]
    class_free: list[Tensor] = field(default_factory=list)
    labels: Tensor | None = None
    valid: Tensor | None = None
    retain: Tensor | None = None
    upsample: Upsample | None = None

    def at_labels(self, logits: Tensor) -> Tensor:
        """Resize one of these outputs to logits ``(N, C, *locations)`` at the labels' locations."""
        return logits if self.is_at_labels(logits) else self.upsample(logits)  # type: ignore[misc]

    def is_at_labels(self, logits: Tensor) -> bool:
        """Return True if logits are at the labels' locations, not at the model's own resolution."""
        return self.upsample is None or tuple(logits.shape[2:]) == tuple(self.upsample.size)

    def classes(self, logits: Tensor) -> Tensor:
        """Predict the class at each of the labels' locations, int64 ``(N, *locations)``, from logits resized or not."""
        return logits.argmax(1) if self.is_at_labels(logits) else self.upsample.classes(logits)  # type: ignore[union-attr]

    def nearest(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Sample logits, resized or not, at the places nearest to those of a map of ``size``."""
        if self.is_at_labels(logits):
            return interpolate(logits, size, mode="nearest-exact")
        return self.upsample.nearest(logits, size)  # type: ignore[union-attr]


def is_loss(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return True if a model's forward with these arguments computes a loss."""
    return "loss" in (kwargs.get("mode"), *[value for value in args if isinstance(value, str)])


@dataclass(frozen=True)
class LossPoint:
    """A method in which the model computes a loss from its outputs: ``module.method(outputs, ...) -> dict of losses``. The
    outputs come first: tensors ``(N, ...)``, or sequences of them. ``read`` turns the method's arguments into
    :class:`LossInputs`."""

    name: str
    module: nn.Module
    method: str
    read: Callable[..., LossInputs]


def swap(point: LossPoint, method: Callable[..., Any]) -> Callable[[], None]:
    """Replace a loss point's method on the instance; return a function that restores it."""
    had = point.method in vars(point.module)
    old = getattr(point.module, point.method)
    setattr(point.module, point.method, method)
    return partial(setattr, point.module, point.method, old) if had else partial(delattr, point.module, point.method)
