"""Arguments, their checks, results and interpolation, shared by the implementations of the loss."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


class Call(NamedTuple):
    """Arguments of a call of :func:`delete_tasks.losses.masked_kl_div`; :func:`check` expands mask and weight."""

    student: Tensor
    teacher: Tensor
    mask: Tensor
    weight: Tensor | None
    reduction: str
    temperature: float
    teacher_temperature: float
    terms: bool

    @property
    def accumulate(self) -> torch.dtype:
        return accumulation_dtype(self.student)

    @property
    def scales(self) -> tuple[float, float]:
        """Factors of the student's and the teacher's logits."""
        return 1 / self.temperature, 1 / self.temperature / self.teacher_temperature

    def new_sums(self) -> Tensor:
        """Make zeros for :attr:`Result.sums`."""
        return torch.zeros(4 if self.terms else 1, dtype=torch.float64, device=self.student.device)


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of sums over a tensor: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class Result(NamedTuple):
    """Result of one pass over the logits: float64 weighted ``sums`` over locations of the loss and, with terms, of the forgetting
    term, t*s and t*t; the weighted loss ``(N, *locations)`` for reduction 'none', before the temperature's square; and the
    ``gradient``, ``(softmax(student) - p) * weight * factor``, or None."""

    sums: Tensor
    per_location: Tensor | None
    gradient: Tensor | None


def check(call: Call, locations: tuple[int, ...] | None = None) -> Call:
    """Check a call; expand mask and weight to the logits' shape, or ``locations``, on their device. Raise as masked_kl_div."""
    student, teacher, mask, weight = call[:4]
    if not (student.is_floating_point() and teacher.is_floating_point()):
        raise TypeError(f"logits must be floating point, got student {student.dtype} and teacher {teacher.dtype}")
    if student.ndim < 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must both be (N, C, *locations), got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = class masked), got {mask.dtype}; use mask.bool()")
    if call.reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction '{call.reduction}'; expected one of {', '.join(REDUCTIONS)}")
    for name in ("temperature", "teacher_temperature"):
        value = getattr(call, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")
    shape = student.shape if locations is None else (*student.shape[:2], *locations)
    try:
        mask = mask.to(student.device).expand(shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} cannot be broadcast to logits of shape {tuple(shape)}; "
            "give it (1, C, 1, ...) to mask classes everywhere, or one value per location"
        ) from error
    # An expanded dimension repeats its first index, so that one is enough: of a class mask, C values.
    distinct = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]
    if mask.shape[1] > 0 and bool(distinct.all(1).any()):
        raise ValueError("the mask covers every class at some location; leave at least one class unmasked there")
    if weight is not None:
        places = (shape[0], *shape[2:])
        try:
            weight = weight.to(student.device).expand(places)
        except RuntimeError as error:
            raise ValueError(f"weight of shape {tuple(weight.shape)} does not fit the locations {places}") from error
        if weight.numel() and bool((weight < 0).any()):
            raise ValueError(f"weights must not be negative, got {weight.min().item()}")
    return call._replace(mask=mask, weight=weight)


class Axis:
    """Bilinear interpolation along one axis. Interval ``i`` of ``inputs + 1`` lies between inputs ``i - 1`` and ``i``; the first
    and the last interval lie beyond the outer inputs. Outputs ``first[i] .. first[i + 1] - 1`` lie in interval ``i``: int32
    ``(inputs + 2,)``. ``earlier`` and ``later``, int64 ``(outputs,)``, are the indices of the inputs beside each output, and
    ``share``, float32 ``(outputs,)``, is the weight of the later one."""

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

    def take(self, values: Tensor, dim: int, places: slice | Tensor = slice(None)) -> Tensor:
        """Interpolate ``values`` along dimension ``dim`` at the outputs ``places``."""
        shape = [-1 if d == dim % values.ndim else 1 for d in range(values.ndim)]
        early, late = (values.index_select(dim, ids[places].to(values.device)) for ids in (self.earlier, self.later))
        return torch.lerp(early, late, self.share[places].to(values).view(shape))
