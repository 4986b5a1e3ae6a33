"""Loss and gradient of the places between two rows of logits, without an exponential for each of them.

Between two rows a logit changes linearly, so its exponential changes by the same factor from place to place: ``exp(a + k d) =
exp(a) exp(d)^k``. And what the loss sums over places, ``p (t - s)``, is a sum of as few numbers as there are logits once ``p`` is
narrowed as the gradient is: narrowing is the transpose of interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .chunked import add_to, chunk_loss, groups

# Exponentials of float32 end at e^-87. A logit that changes by STEEP may begin there, and must not count where it ends, beside
# sums of at least LEAST: e^(STEEP - 87) / LEAST is below a rounding.
STEEP = 40.0
LEAST = 1e-13


class Row:
    """A row of logits, widened to all columns.

    Attributes:
        logits: The student's and the teacher's ``(2, n, C, W)``.
        sums: Of the same shape: what the student's softmax and the target add up to over the places beside this row, each place
            with its share in it. Their difference is the row's gradient.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.sums = logits, torch.zeros_like(logits)


def steep(logits: Tensor) -> list[bool]:
    """Of logits ``(2, n, C, h, w)``, for each pair of neighbouring rows, whether :func:`add_between` cannot be used there."""
    fine = (logits[..., 1:, :] - logits[..., :-1, :]).abs().amax(
        (0, 1, 2, 4)
    ) <= STEEP  # False where a logit is infinite
    return (~fine).tolist()


def add_between(
    above: Row, below: Row, columns: slice, shares: Sequence[float], m: Tensor, w: Tensor | None, sums: Tensor
) -> bool:
    """Add the loss of the places between two rows to ``sums`` and to the rows' own, from which ``sum p (t - s)`` follows.

    Args:
        above, below: The rows; logits shifted so that in each column the greatest unmasked one is about 0.
        columns: Which of the columns, W of them.
        shares: Of the row below in each of the K places, at equal distances.
        m: Mask ``(K, n, C, W)``, or ``(C,)`` where it is the same everywhere.
        w: Weights ``(K, n, W)``, or None.
        sums: As of :class:`.results.Result`.

    Returns:
        False, and nothing is added, where sums are too small for all of their digits.
    """
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
    add_to(sums, 0, logs[:, 0] - logs[:, 1], w)
    if len(sums) > 1:
        mass = cut / every
        add_to(sums, 1, torch.log1p(cut[:, 0] / kept[:, 0]), w)
        add_to(sums, 2, mass[:, 0] * mass[:, 1], w)
        add_to(sums, 3, mass[:, 1].square(), w)
    return True


def add_directly(
    above: Row, below: Row, columns: slice, shares: Sequence[float], m: Tensor, w: Tensor | None, sums: Tensor
) -> None:
    """As :func:`add_between`, for any logits, and with all of the loss: to the rows goes the gradient alone."""
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
    """``exp(above + share * (below - above))`` ``(K, *)`` of rows ``(*)``."""
    count, change = len(shares), below - above
    found = torch.empty(count, *above.shape, dtype=above.dtype, device=above.device)
    torch.add(above, change, alpha=shares[0], out=found[0]).exp_()
    factor = change.mul_(shares[1] - shares[0]).exp_() if count > 1 else change
    done = 1
    while done < count:
        more = min(done, count - done)
        torch.mul(found[:more], factor, out=found[done : done + more])
        done += more
        factor.mul_(factor)
    return found
