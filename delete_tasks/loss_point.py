"""Where a model computes its loss, and what it was given there, in the core's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Upsample:
    """What a model does to its logits before it computes its loss: bilinear interpolation to the labels' size.

    Attributes:
        size: Of the labels ``(H, W)``.
        align_corners: As for :func:`torch.nn.functional.interpolate`.
    """

    size: tuple[int, int]
    align_corners: bool = False

    def __call__(self, logits: Tensor) -> Tensor:
        """``(N, C, h, w)`` -> ``(N, C, H, W)``."""
        return interpolate(logits, self.size, mode="bilinear", align_corners=self.align_corners)


@dataclass
class LossInputs:
    """What one call of a loss method was given, in the core's terms.

    Attributes:
        logits: One ``(N, C, *locations)`` tensor of class logits for each output that chooses a class.
            They have the locations of the labels, or ``upsample`` gives them those.
        weights: The weight of each of them in the model's own loss.
        class_free: Outputs that know no classes (boundaries); they take part with weight zero, so that each
            parameter keeps a gradient, as DistributedDataParallel demands.
        labels: ``(N, *locations)`` integers, or None where there are none.
        valid: ``(N, *locations)`` booleans, False on padding; None where every location counts.
        retain: Booleans broadcastable to ``(N, *locations)``, True at locations of a retain set: nothing is masked there
            whatever else holds, and the loss is plain distillation. None where there are no such locations.
        upsample: From the logits' own resolution to the labels'; None where they have it.
    """

    logits: list[Tensor]
    weights: list[float]
    class_free: list[Tensor] = field(default_factory=list)
    labels: Tensor | None = None
    valid: Tensor | None = None
    retain: Tensor | None = None
    upsample: Upsample | None = None

    def at_labels(self, logits: Tensor) -> Tensor:
        """Logits ``(N, C, *locations)`` of one of these outputs, at the labels' locations."""
        return logits if self.upsample is None else self.upsample(logits)


@dataclass(frozen=True)
class LossPoint:
    """A method in which the model computes a loss from its outputs: ``module.method(outputs, ...) -> dict of losses``.

    The outputs come first: tensors ``(N, ...)``, or sequences of them. ``read`` turns the method's arguments into
    :class:`LossInputs`.
    """

    name: str
    module: nn.Module
    method: str
    read: Callable[..., LossInputs]
