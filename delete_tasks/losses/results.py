"""What the implementations of a loss take and give, so that one stands in for another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Options(NamedTuple):
    """Options of one call, see :func:`delete_tasks.losses.masked_kl_div`; ``terms``: the sums of both terms are wanted."""

    reduction: str
    temperature: float
    teacher_temperature: float
    terms: bool

    @staticmethod
    def new_gradient(student: Tensor) -> Tensor:
        """An empty tensor of the student's shape and dtype, channels-last where the student is, else contiguous."""
        last = student.ndim == 4 and student.is_contiguous(memory_format=torch.channels_last)
        return torch.empty_like(student, memory_format=torch.channels_last if last else torch.contiguous_format)


class Result(NamedTuple):
    """What one pass over the logits gives.

    Attributes:
        sums: float64: the weighted sums over locations of the loss and, if terms are wanted, of the forgetting term, t*s and t*t.
        per_location: Weighted loss ``(N, *locations)`` for reduction 'none', before the temperature's square.
        gradient: ``(softmax(student) - p) * weight * factor``, or None.
    """

    sums: Tensor
    per_location: Tensor | None
    gradient: Tensor | None
