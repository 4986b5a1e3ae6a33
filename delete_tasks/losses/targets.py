"""Targets at the locations that the original assigns to a forgotten class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import RequestError
from .masks import class_mask, is_forgotten

# A hole is a region in which the forgotten classes have more than HOLE of the probability and no other class twice theirs, as an
# object beside or in front would have. Up to RIM cells around it, cells with a TRACE of the forgotten classes belong to it if the
# original is not SURE of another class: at an object's edge it predicts neither the object nor its surroundings.
HOLE, TRACE, SURE, RIM = 0.1, 0.01, 0.5, 2
NARROW = 64  # a region narrower than this part of the map, and than three cells, is an object and not surroundings
MOST = 128  # cells of a side of the map on which the surroundings are diffused: they are smooth, and time grows with its cube
PRESENT = 0.01  # least probability at the border of a class that is diffused
TOLERANCE = 1e-3  # of the diffused probabilities
SECOND = 0.3  # weight of the second choice in the target of fill='auto', see docs/notes/segmentation.md
CUT = -1e4  # stands in for -inf, also in half precision: its probability is an exact 0


def avoid_classes(target: Tensor, seen: Tensor, avoid: Sequence[int]) -> Tensor:
    """Remove the classes ``avoid`` from target logits ``(N, C, *locations)`` where ``seen`` ``(N, *locations)`` is True."""
    avoided = class_mask(avoid, target.shape[1], target.ndim, target.device)
    return target.masked_fill(seen.unsqueeze(1) & avoided, CUT)


def move_mass(logits: Tensor, ids: Sequence[int], into: int, retain: Tensor | None = None) -> Tensor:
    """Add the probability of the forgotten classes ``ids`` to that of the class ``into`` where one of them is the first choice of
    the original's logits ``(N, C, *locations)``; nothing changes elsewhere, and where ``retain``, booleans broadcastable to
    ``(N, *locations)``, is True.

    The loss masks the forgotten classes, so the sum is that of its target. Their own logits rise by as much as keeps their
    probability beside the larger logit of ``into``: stop rule, guard and losses on features read it.
    """
    first = is_forgotten(logits.argmax(1), ids)
    first = first if retain is None else first & ~retain
    others = logits.masked_fill(class_mask(ids, logits.shape[1], logits.ndim, logits.device), -torch.inf)
    rise = logits.logsumexp(1) - others.logsumexp(1)
    target = logits.clone()
    target[:, into] = torch.where(first, logits[:, [*ids, into]].logsumexp(1), logits[:, into])
    target[:, list(ids)] += torch.where(first, rise, 0).unsqueeze(1)
    return target


def fill_surroundings(
    logits: Tensor, ids: Sequence[int], avoid: Sequence[int] = (), second: float = 0.0, valid: Tensor | None = None
) -> Tensor:
    """Fill the locations of forgotten classes with the logits of their surroundings, given the original's logits ``(N, C, h, w)``
    at the model's resolution; return the same tensor if no forgotten class is predicted.

    The probabilities of the remaining classes are diffused into the locations of the forgotten ones: Laplace's equation with
    fixed values at the border. The border is where the original predicts surroundings: neither a class of ``avoid`` nor a narrow
    region (a pole, a person in front). Nothing diffuses through such regions, and their target does not change. A hole
    without such a border keeps the original's second choice. The forgotten classes' probability does not change: the loss masks
    it. With ``second``, these probabilities are multiplied by those of the second choice, so that each location has its choice of
    the classes around, and ``second`` is the weight of the second choice itself in a mean with the product: other classes are
    then less likely, but not impossible, and suffer less elsewhere. ``valid``, float ``(N, h, w)``, is 1, and 0 on padding,
    which is not read. Raise :class:`RequestError` for logits without a map, which have no surroundings.
    """
    if logits.ndim != 4:
        raise RequestError(
            "fill='surroundings' needs a map of logits (N, C, h, w), and this model has one place a sample; use fill='second', "
            "with avoid=[...] to rule classes out"
        )
    p = logits.float().softmax(1)
    if valid is not None:
        p = p * valid.unsqueeze(1)
    mass = p[:, list(ids)].sum(1, keepdim=True)
    other = p.index_fill(1, torch.as_tensor(list(ids), device=logits.device), 0).amax(1, keepdim=True)
    core = (mass > HOLE) & (2 * mass > other)
    if not core.any():
        return logits
    hole = core | (_grow(core.float(), RIM) > 0) & (mass > TRACE) & (other < SURE)
    rest = logits.float().index_fill(1, torch.as_tensor([*ids, *avoid], device=logits.device), -torch.inf).softmax(1)
    if valid is not None:
        rest = rest * valid.unsqueeze(1)
    filled = _surroundings(p, rest, hole, avoid)
    if second:
        product = torch.where((filled == rest).all(1, keepdim=True), rest, filled * rest.clamp(min=1e-6))
        filled = torch.lerp(product / product.sum(1, keepdim=True), rest, second)
    forgotten = class_mask(ids, logits.shape[1], 4, logits.device)
    target = torch.where(forgotten, p, (1 - mass) * filled).log_().clamp_(min=CUT)
    return torch.where(hole, target.to(logits.dtype), logits)


def _surroundings(p: Tensor, rest: Tensor, hole: Tensor, avoid: Sequence[int]) -> Tensor:
    """Diffuse ``rest`` into the ``hole``, on a map of at most MOST cells a side, of which the result is an enlargement."""
    size, full = rest.shape[2:], rest
    if max(size) > MOST:
        rows, columns = (max(1, round(side * MOST / max(size))) for side in size)
        small = (rows, columns)
        p, rest = F.adaptive_avg_pool2d(p, small), F.adaptive_avg_pool2d(rest, small)
        hole = F.adaptive_max_pool2d(hole.float(), small) > 0
    known = rest.sum(1, keepdim=True) > 0.99
    filled = _diffuse(rest, hole, ~hole & known & _is_wide(p.argmax(1), p.shape[1], avoid))
    if rest is full:
        return filled
    diffused = F.interpolate((filled != rest).any(1, keepdim=True).float(), size) > 0
    return torch.where(diffused, F.interpolate(filled, size, mode="bilinear"), full)


def _grow(map_: Tensor, cells: int) -> Tensor:
    return F.max_pool2d(map_, 2 * cells + 1, stride=1, padding=cells)


def _is_wide(labels: Tensor, classes: int, avoid: Sequence[int]) -> Tensor:
    """Select wide regions of a class that is not in ``avoid``, by a morphological opening: booleans ``(N, 1, h, w)``."""
    cells = max(1, round(min(labels.shape[1:]) / NARROW))
    regions = F.one_hot(labels, classes).movedim(3, 1).float()
    regions[:, list(avoid)] = 0
    return (_grow(1 - _grow(1 - regions, cells), cells) * regions).amax(1, keepdim=True) > 0


def _diffuse(values: Tensor, hole: Tensor, border: Tensor) -> Tensor:
    """Replace ``values`` ``(N, C, h, w)``, with sum 1 over C, in the ``hole`` by the mean of their neighbours in the hole and on
    the ``border``; a part without a border does not change. Solved by conjugate gradients for all maps at once, within the hole's
    bounding box and for classes at the border alone."""
    box = _box(_grow(hole.float(), 1))
    hole, held, near = hole[box], border[box].float(), values[box]
    at_border = near * held * _grow(hole.float(), 1)
    present = at_border.amax((0, 2, 3)) > PRESENT
    if not present.any():
        return values
    solution = _solve(near[:, present], hole.float(), held)
    total = solution.sum(1, keepdim=True)
    spread = torch.zeros_like(near)
    spread[:, present] = solution / total.clamp(min=0.5)
    filled = values.clone()
    filled[box] = torch.where(hole & (total > 0.5), spread, near)
    return filled


def _box(map_: Tensor) -> tuple[slice, ...]:
    """Find the bounding box of the cells of ``(N, 1, h, w)`` that are not 0, over all samples."""
    rows, columns = (map_.amax(axes).nonzero() for axes in ((0, 1, 3), (0, 1, 2)))
    bounds = [(int(ids.min()), int(ids.max()) + 1) for ids in (rows, columns)]
    return (slice(None), slice(None), *(slice(*pair) for pair in bounds))


def _solve(values: Tensor, inside: Tensor, held: Tensor) -> Tensor:
    degree = _neighbours(inside + held) * inside
    solution = torch.zeros_like(values)
    residual = inside * _neighbours(values * held)
    scale = 1 / degree.clamp(min=1)
    direction = z = scale * residual
    strength = _dot(residual, z)
    for step in range(4 * sum(values.shape[2:])):
        if step % 8 == 0 and float(residual.abs().amax()) < TOLERANCE:
            break
        along = degree * direction - inside * _neighbours(direction)
        rate = strength / _dot(direction, along).clamp(min=1e-20)
        solution = solution + rate * direction
        residual = residual - rate * along
        z = scale * residual
        before, strength = strength, _dot(residual, z)
        direction = z + strength / before.clamp(min=1e-20) * direction
    return solution.clamp_(min=0)


def _neighbours(x: Tensor) -> Tensor:
    """Sum the four neighbours of each cell; cells outside the map are 0."""
    x = F.pad(x, (1, 1, 1, 1))
    return x[:, :, :-2, 1:-1] + x[:, :, 2:, 1:-1] + x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)
