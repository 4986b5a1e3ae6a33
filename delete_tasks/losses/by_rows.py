"""Bilinear resize and masked KL divergence in PyTorch, row by row of the logits, without a tensor of the full size.

The places between two rows of logits need no exponential each. A logit changes linearly between two rows, so its exponential
changes by the same factor from place to place: ``exp(a + k d) = exp(a) exp(d)^k``. The sum of ``p (t - s)`` over all places
is a sum over the small logits once ``p`` is narrowed as the gradient is: narrowing is the transpose of interpolation.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunked
from ._common import Axis, Call, Result
from .chunked import add_to, chunk_loss, groups

MOST_ROWS = 16  # places computed from one exponential: each adds a rounding error
CPU_CHUNK = 1 << 19  # elements of both logits at once on a CPU: each needs little computation, so calls dominate
PARTS = 8  # parts of a block of which at least one is computed directly
# The smallest float32 exponential is e^-87. A logit that begins there and changes by STEEP must not count beside sums of at
# least LEAST: e^(STEEP - 87) / LEAST is below a rounding.
STEEP = 40.0
LEAST = 1e-13


def forward(align_corners: bool, call: Call, factor: Tensor, wants_gradient: bool) -> Result:
    """Compute loss, sums and gradient of logits ``(N, C, h, w)`` resized to the mask's size, as :func:`.chunked.forward`: two
    rows of logits at a time are widened, and the rows between follow from them."""
    student, size = call.student, call.mask.shape[2:]
    sums, gradient = call.new_sums(), torch.empty_like(student, dtype=call.accumulate)
    axis = Axis(student.shape[2], size[0], align_corners)
    rows = max(1, min(MOST_ROWS, int(axis.first.diff().max())))
    chunk = CPU_CHUNK if student.device.type == "cpu" else chunked.DEVICE_CHUNK
    at_once = max(1, chunk // max(1, 2 * rows * student.shape[1]))  # columns, of all samples together
    samples = max(1, at_once // size[1])
    for first in range(0, student.shape[0], samples):
        group = slice(first, first + samples)
        pair = [
            logits[group].to(call.accumulate) * scale
            for logits, scale in zip((student, call.teacher), call.scales, strict=True)
        ]
        weight = None if call.weight is None else call.weight[group].to(call.accumulate)
        work = _Samples(torch.stack(pair), call.mask[group], weight, sums)
        gradient[group] = work.run(axis, align_corners, rows, max(1, at_once // len(pair[0])))
    return Result(sums, None, gradient.mul_(factor.to(call.accumulate)).to(student.dtype) if wants_gradient else None)


class _Samples:
    """A few samples: scaled logits of student and teacher ``(2, n, C, h, w)``, mask ``(n, C, H, W)``, weight ``(n, H, W)`` or
    None, and the sums of :class:`._common.Result` to which theirs are added."""

    def __init__(self, pair: Tensor, mask: Tensor, weight: Tensor | None, sums: Tensor) -> None:
        self.mask, self.weight, self.sums = mask, weight, sums
        by_class = all(mask.shape[dim] == 1 or mask.stride(dim) == 0 for dim in (0, 2, 3))
        self.masked = mask[0, :, 0, 0] if by_class else None  # (C,), if it is the same everywhere
        unmasked = pair if self.masked is None else pair[:, :, ~self.masked]
        greatest = unmasked.amax(2, keepdim=True)
        self.pair = pair - torch.where(greatest.isfinite(), greatest, 0.0)

    def run(self, axis: Axis, align_corners: bool, rows: int, columns: int) -> Tensor:
        """Compute the gradient ``(n, C, h, w)``, in blocks of at most ``rows`` and ``columns``. ``axis`` is that of the rows."""
        _, samples, classes, height, narrow = self.pair.shape
        width = self.mask.shape[3]
        gradient = torch.empty_like(self.pair[0])
        first, shares = axis.first.tolist(), axis.share.tolist()
        change = (self.pair[..., 1:, :] - self.pair[..., :-1, :]).abs().amax((0, 1, 2, 4))
        gentle = (change <= STEEP).tolist()  # False for a pair of rows with an infinite logit
        open_rows: dict[int, Row] = {}
        for interval in range(height + 1):
            above, below = max(interval - 1, 0), min(interval, height - 1)
            for row in {above, below} - set(open_rows):
                lines = self.pair[..., row, :].flatten(0, 1)
                wide = F.interpolate(lines, width, mode="linear", align_corners=align_corners)
                open_rows[row] = Row(wide.unflatten(0, (2, samples)))
            directly = above < below and not gentle[above]
            for y in range(first[interval], first[interval + 1], rows):
                place = slice(y, min(y + rows, first[interval + 1]))
                for run in _runs(0, width, -(-width // columns)):
                    self._add(open_rows[above], open_rows[below], place, run, shares[place], directly)
            for row in [row for row in open_rows if row < below or interval == height]:
                step = self._close(open_rows.pop(row))
                back = torch.ops.aten.upsample_linear1d_backward
                gradient[:, :, row] = back(step, [width], [samples, classes, narrow], align_corners, None)
        return gradient

    def _add(self, above: "Row", below: "Row", place: slice, run: slice, shares: list[float], directly: bool) -> None:
        def arguments(run: slice) -> tuple[Any, ...]:
            m = self.mask[:, :, place, run].movedim(2, 0) if self.masked is None else self.masked
            w = None if self.weight is None else self.weight[:, place, run].movedim(1, 0)
            return above, below, run, shares, m, w, self.sums

        if not directly and add_between(*arguments(run)):
            return
        for part in _runs(run.start, run.stop, PARTS):
            if directly or not add_between(*arguments(part)):
                add_directly(*arguments(part))

    def _close(self, row: "Row") -> Tensor:
        """Compute the row's gradient ``(n, C, W)``; add its part of ``sum p (t - s)`` to the sums."""
        softmax, target = row.sums
        if self.masked is not None:
            target[:, self.masked] = 0.0
        self.sums[0] += ((row.logits[1] - row.logits[0]) * target).nan_to_num_().sum(dtype=torch.float64)
        return softmax - target


def _runs(begin: int, end: int, count: int) -> list[slice]:
    """Split ``begin .. end - 1`` into ``count`` runs of about the same length, or into single places if there are fewer."""
    edges = {begin + part * (end - begin) // count for part in range(count + 1)}
    return [slice(*pair) for pair in pairwise(sorted(edges))]


class Row:
    """A row of the student's and the teacher's ``logits`` ``(2, n, C, W)``, widened to all columns, and the ``sums``, of this
    shape, of the student's softmax and of the target over the places beside the row, weighted by the row's share in each place.
    Their difference is the row's gradient."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.sums = logits, torch.zeros_like(logits)


def add_between(
    above: Row, below: Row, columns: slice, shares: Sequence[float], m: Tensor, w: Tensor | None, sums: Tensor
) -> bool:
    """Add the loss of the places between two rows to ``sums``, of :class:`._common.Result`, and to the rows' sums, from which
    ``sum p (t - s)`` follows; return False, with nothing added, if sums of exponentials are too small for full precision. The
    rows' logits are shifted so that in each column the greatest unmasked one is about 0. ``shares`` are those of the row below in
    K places at equal distances. The mask is ``(K, n, C, W)``, or ``(C,)`` if it is the same everywhere, weights ``(K, n, W)``."""
    e = _exponentials(above.logits[..., columns], below.logits[..., columns], shares)
    flat = m.view(1, -1, 1) if m.ndim == 1 else m.unsqueeze(1).expand(e.shape).flatten(0, 2)
    kept, cut = (part.view(*e.shape[:3], -1) for part in groups(e.flatten(0, 2), flat))
    every = kept + cut
    if not (float(kept.amin()) > LEAST and float(every.amax()) < torch.finfo(e.dtype).max):
        return False
    total = torch.stack([every[:, 0], kept[:, 1]], 1)
    scale = total.reciprocal() if w is None else w.unsqueeze(1) / total
    e.mul_(scale.unsqueeze(3))
    if m.ndim > 1:
        e[:, 1].masked_fill_(m, 0.0)
    lam = torch.tensor(shares, dtype=e.dtype, device=e.device)
    parts = torch.stack([1 - lam, lam]) @ e.flatten(1)
    for part, row in zip(parts, (above, below), strict=True):
        row.sums[..., columns] += part.view(e.shape[1:])
    logs = total.log()
    add_to(sums, w, logs[:, 0] - logs[:, 1])
    if len(sums) > 1:
        s_mass, t_mass = (cut / every).unbind(1)
        add_to(sums[1:], w, torch.log1p(cut[:, 0] / kept[:, 0]), s_mass * t_mass, t_mass.square())
    return True


def add_directly(
    above: Row, below: Row, columns: slice, shares: Sequence[float], m: Tensor, w: Tensor | None, sums: Tensor
) -> None:
    """Add as :func:`add_between` does, for any logits: the whole loss to ``sums``, the gradient to the rows."""
    ends = above.logits[..., columns], below.logits[..., columns]
    lam = torch.tensor(shares, dtype=ends[0].dtype, device=ends[0].device)
    later = lam.view(-1, 1, 1, 1, 1)
    s, t = ends[0].mul(1 - later).add_(ends[1] * later).unbind(1)  # lerp makes NaN of an infinite logit
    shape = s.shape
    s, t, m = s.flatten(0, 1), t.flatten(0, 1), m.view(1, -1, 1) if m.ndim == 1 else m.flatten(0, 1)
    step = torch.empty_like(s)
    w = None if w is None else w.flatten(0, 1)
    factor = torch.ones((), dtype=s.dtype, device=s.device) if w is None else w.unsqueeze(1)
    chunk_loss(s, t, m, w, sums, factor, step)
    parts = torch.stack([1 - lam, lam]) @ step.view(len(lam), -1)
    for part, row in zip(parts, (above, below), strict=True):
        row.sums[0][..., columns] += part.view(shape[1:])


def _exponentials(above: Tensor, below: Tensor, shares: Sequence[float]) -> Tensor:
    """Compute ``exp(above + share * (below - above))`` ``(K, *)`` of rows ``(*)``."""
    count, change = len(shares), below - above
    values = torch.empty(count, *above.shape, dtype=above.dtype, device=above.device)
    torch.add(above, change, alpha=shares[0], out=values[0]).exp_()
    factor = change.mul_(shares[1] - shares[0]).exp_() if count > 1 else change
    done = 1
    while done < count:
        more = min(done, count - done)
        torch.mul(values[:more], factor, out=values[done : done + more])
        done += more
        factor.mul_(factor)
    return values
