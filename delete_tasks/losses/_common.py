"""Options, results, argument checks and interpolation that the implementations of the loss share."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")
EVERY = slice(None)


class Options(NamedTuple):
    """Options of one call, see :func:`delete_tasks.losses.masked_kl_div`; ``terms`` asks for the sums of both terms."""

    reduction: str
    temperature: float
    teacher_temperature: float
    terms: bool

    @staticmethod
    def new_gradient(student: Tensor) -> Tensor:
        """Allocate a tensor of the student's shape and dtype, channels-last if the student is, else contiguous."""
        last = student.ndim == 4 and student.is_contiguous(memory_format=torch.channels_last)
        return torch.empty_like(student, memory_format=torch.channels_last if last else torch.contiguous_format)


class Result(NamedTuple):
    """Result of one pass over the logits.

    Attributes:
        sums: float64, the weighted sums over locations of the loss and, with terms, of the forgetting term, t*s and t*t.
        per_location: Weighted loss ``(N, *locations)`` for reduction 'none', before the temperature's square.
        gradient: ``(softmax(student) - p) * weight * factor``, or None.
    """

    sums: Tensor
    per_location: Tensor | None
    gradient: Tensor | None


def check_inputs(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    options: Options,
    locations: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Check a loss's arguments; give mask and weight on the logits' device, expanded to their shape, or to ``locations``' shape.

    Raises what :func:`.functional.masked_kl_div` says.
    """
    if not (student.is_floating_point() and teacher.is_floating_point()):
        raise TypeError(f"logits must be floating point, got student {student.dtype} and teacher {teacher.dtype}")
    if student.ndim < 2 or student.shape != teacher.shape:
        raise ValueError(
            "student and teacher must both be (N, C, *locations), "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = class taken out), got {mask.dtype}; use mask.bool()")
    if options.reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction '{options.reduction}'; expected one of {', '.join(REDUCTIONS)}")
    for name in ("temperature", "teacher_temperature"):
        value = getattr(options, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")
    every = student.shape if locations is None else (*student.shape[:2], *locations)
    try:
        mask = mask.to(student.device).expand(every)
    except RuntimeError as error:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} cannot be broadcast to logits of shape {tuple(every)}; "
            "give it (1, C, 1, ...) to mask classes everywhere, or one value per location"
        ) from error
    # Expanded dimensions repeat themselves: looking at their first index is enough, and keeps a class mask C values small.
    distinct = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]
    if mask.shape[1] > 0 and bool(distinct.all(1).any()):
        raise ValueError("the mask takes out every class at some location; leave at least one class unmasked there")
    if weight is not None:
        shape = (every[0], *every[2:])
        try:
            weight = weight.to(student.device).expand(shape)
        except RuntimeError as error:
            raise ValueError(
                f"weight of shape {tuple(weight.shape)} cannot be broadcast to the locations {shape}"
            ) from error
        if weight.numel() and bool((weight < 0).any()):
            raise ValueError(f"weights must not be negative, got a smallest value of {weight.min().item()}")
    return mask, weight


class Axis:
    """Places along one axis between the inputs that are interpolated: interval ``i`` of ``inputs + 1`` lies between inputs
    ``i - 1`` and ``i`` (the first and the last beyond the outer ones).

    Attributes:
        first: int32 ``(inputs + 2,)``: places ``first[i] .. first[i + 1] - 1`` lie in interval ``i``.
        share: float32 ``(outputs,)``, the later input's share in each place.
        earlier, later: int64 ``(outputs,)``, the inputs that each place lies between.
    """

    def __init__(self, inputs: int, outputs: int, align_corners: bool) -> None:
        places = torch.arange(outputs, dtype=torch.float32)
        if align_corners:
            at = places * ((inputs - 1) / (outputs - 1) if outputs > 1 else 0.0)
        else:
            at = (places + 0.5) * torch.tensor(inputs / outputs, dtype=torch.float32) - 0.5
        below = at.floor()
        self.share = at - below
        interval = (below.to(torch.int32) + 1).clamp_(0, inputs)
        self.earlier, self.later = (interval - 1).clamp(min=0).long(), interval.clamp(max=inputs - 1).long()
        self.first = torch.searchsorted(interval, torch.arange(inputs + 2, dtype=torch.int32)).to(torch.int32)

    def take(self, values: Tensor, dim: int, places: slice | Tensor = EVERY) -> Tensor:
        """Interpolate ``values`` along dimension ``dim``, at ``places`` alone."""
        shape = [-1 if d == dim % values.ndim else 1 for d in range(values.ndim)]
        early, late = (values.index_select(dim, part[places].to(values.device)) for part in (self.earlier, self.later))
        return torch.lerp(early, late, self.share[places].to(values).view(shape))
