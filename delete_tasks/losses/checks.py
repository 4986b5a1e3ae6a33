"""What a loss refuses of its arguments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .results import Options

REDUCTIONS = ("mean", "sum", "none")


def check_inputs(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    options: Options,
    locations: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Mask and weight on the logits' device, expanded to the logits' shape, or to that of ``locations`` if they are given.

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
