"""Bilinear resize and masked KL divergence in PyTorch, row by row of the logits: no tensor of the full size is made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunked
from .axis import Axis
from .results import Options, Result
from .stepwise import Row, add_between, add_directly, steep

MOST_ROWS = 16  # places that follow from one exponential: each costs a rounding
# Elements of both logits in work at once on a CPU: there is little to compute for each, so calls are what costs.
CPU_CHUNK = 1 << 19
PARTS = 8  # of a block that has to be computed directly somewhere: more to compute, in a cache, and not everywhere


def forward(
    size: tuple[int, int],
    align_corners: bool,
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    options: Options,
    factor: Tensor,
    wants_gradient: bool,
) -> Result:
    """Loss, sums and gradient of logits ``(N, C, h, w)`` at ``size``; the other arguments as of :func:`.chunked.forward`.

    Rows between two rows of logits at a time: these are widened first, and what lies between follows from them.
    """
    accumulate = torch.float64 if student.dtype == torch.float64 else torch.float32
    sums = torch.zeros(4 if options.terms else 1, dtype=torch.float64, device=student.device)
    gradient = torch.empty_like(student, dtype=accumulate)
    scales = (1 / options.temperature, 1 / options.temperature / options.teacher_temperature)
    axis = Axis(student.shape[2], size[0], align_corners)
    rows = max(1, min(MOST_ROWS, int(axis.first.diff().max())))
    chunk = CPU_CHUNK if student.device.type == "cpu" else chunked.DEVICE_CHUNK
    at_once = max(1, chunk // max(1, 2 * rows * student.shape[1]))  # columns, of all samples together
    several = max(1, at_once // size[1])
    for first in range(0, student.shape[0], several):
        group = slice(first, first + several)
        pair = [logits[group].to(accumulate) * scale for logits, scale in zip((student, teacher), scales, strict=True)]
        w = None if weight is None else weight[group].to(accumulate)
        samples = _Samples(torch.stack(pair), mask[group], w, sums)
        gradient[group] = samples.run(axis, size[1], align_corners, rows, max(1, at_once // len(pair[0])))
    return Result(sums, None, gradient.mul_(factor.to(accumulate)).to(student.dtype) if wants_gradient else None)


class _Samples:
    """A few samples at a time.

    Args:
        pair: Scaled logits of student and teacher ``(2, n, C, h, w)``.
        mask: ``(n, C, H, W)``.
        weight: ``(n, H, W)`` or None.
        sums: Are added to.
    """

    def __init__(self, pair: Tensor, mask: Tensor, weight: Tensor | None, sums: Tensor) -> None:
        self.mask, self.weight, self.sums = mask, weight, sums
        by_class = all(mask.shape[dim] == 1 or mask.stride(dim) == 0 for dim in (0, 2, 3))
        self.masked = mask[0, :, 0, 0] if by_class else None  # (C,), where it is the same everywhere
        shown = pair if self.masked is None else pair[:, :, ~self.masked]
        greatest = shown.amax(2, keepdim=True)
        self.pair = pair - torch.where(greatest.isfinite(), greatest, 0.0)

    def run(self, axis: Axis, width: int, align_corners: bool, rows: int, columns: int) -> Tensor:
        """The gradient ``(n, C, h, w)``. ``axis`` is the rows'; blocks have at most ``rows`` and ``columns``."""
        _, samples, classes, height, narrow = self.pair.shape
        found = torch.empty_like(self.pair[0])
        first, shares, refused = axis.first.tolist(), axis.share.tolist(), steep(self.pair)
        open_rows: dict[int, Row] = {}
        for interval in range(height + 1):
            above, below = max(interval - 1, 0), min(interval, height - 1)
            for row in {above, below} - set(open_rows):
                lines = self.pair[..., row, :].flatten(0, 1)
                wide = F.interpolate(lines, width, mode="linear", align_corners=align_corners)
                open_rows[row] = Row(wide.unflatten(0, (2, samples)))
            directly = above < below and refused[above]
            for place, run in _blocks(first[interval], first[interval + 1], width, rows, columns):
                self._add(open_rows[above], open_rows[below], place, run, shares[place], directly)
            for row in [row for row in open_rows if row < below or interval == height]:
                step = self._close(open_rows.pop(row))
                back = torch.ops.aten.upsample_linear1d_backward
                found[:, :, row] = back(step, [width], [samples, classes, narrow], align_corners, None)
        return found

    def _add(self, above: Row, below: Row, place: slice, run: slice, shares: list[float], directly: bool) -> None:
        def share(run: slice) -> tuple[Any, ...]:
            m = self.mask[:, :, place, run].movedim(2, 0) if self.masked is None else self.masked
            w = None if self.weight is None else self.weight[:, place, run].movedim(1, 0)
            return above, below, run, shares, m, w, self.sums

        if not directly and add_between(*share(run)):
            return
        for part in _runs(run.start, run.stop, PARTS):
            if directly or not add_between(*share(part)):
                add_directly(*share(part))

    def _close(self, row: Row) -> Tensor:
        """The row's gradient ``(n, C, W)``; its part of ``sum p (t - s)`` goes to the sums."""
        softmax, target = row.sums
        if self.masked is not None:
            target[:, self.masked] = 0.0
        self.sums[0] += ((row.logits[1] - row.logits[0]) * target).nan_to_num_().sum(dtype=torch.float64)
        return softmax - target


def _blocks(begin: int, end: int, width: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most ``rows`` times ``columns`` of the rows ``begin .. end - 1``, of about the same width."""
    for y in range(begin, end, rows):
        for run in _runs(0, width, -(-width // columns)):
            yield slice(y, min(y + rows, end)), run


def _runs(begin: int, end: int, count: int) -> list[slice]:
    """``count`` runs, or as many as there are places, of about the same length."""
    edges = {begin + part * (end - begin) // count for part in range(count + 1)}
    return [slice(*pair) for pair in pairwise(sorted(edges))]
