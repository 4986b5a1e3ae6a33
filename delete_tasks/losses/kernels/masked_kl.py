"""The masked KL divergence as one Triton kernel, which reads student and teacher once and writes the gradient once.

A program takes a tile of locations with all of their classes. These are of two groups, masked and unmasked. One exponential per
element, relative to the greatest logit of the element's group, gives the softmax over all classes and over the unmasked ones,
however far the groups lie apart. Computations are in float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._common import Call, Result

TILE = 2048  # elements of a tile: 16 of each tensor a thread, so that registers are left for several tiles at once
LINE = 32  # locations beside each other that a memory access should cover
SCALE_BLOCK = 4096
LARGE = 2**31 - 1  # offsets beyond it take 64 bits
Strides = tuple[int, int, int]
FLOOR = tl.constexpr(-1e30)  # finite stand-in for a logit of -inf, see CUT in chunked.py
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def exponentials(x, kept, here):
    """Compute ``exp(x - greatest of its group)``, and each group's greatest logit and sum, unmasked classes first.

    ``here`` is True for existing elements, ``kept`` for the unmasked ones among them.
    """
    cut = here & (kept == 0)
    kept_max = tl.maximum(tl.max(tl.where(kept, x, -INFINITY), 0), FLOOR)
    cut_max = tl.maximum(tl.max(tl.where(cut, x, -INFINITY), 0), FLOOR)
    e = tl.exp(x - tl.where(kept, kept_max[None, :], cut_max[None, :]))
    kept_sum = tl.sum(tl.where(kept, e, 0.0), 0)
    cut_sum = tl.sum(tl.where(cut, e, 0.0), 0)
    return e, kept_max, kept_sum, cut_max, cut_sum


@triton.jit
def whole(kept_max, kept_sum, cut_max, cut_sum):
    """Compute greatest and sum over all classes, and ``log(masked probability / unmasked probability)``."""
    top = tl.maximum(kept_max, cut_max)
    total = kept_sum * tl.exp(kept_max - top) + cut_sum * tl.exp(cut_max - top)
    return top, total, (cut_max - kept_max) + (tl.log(cut_sum) - tl.log(kept_sum))


@triton.jit
def terms_of(s_odds, t_odds):
    """Compute, from log odds of the masked classes, ``-log(1 - q_masked)``, at most ``-FLOOR``, as in PyTorch, if no unmasked
    class has a probability; and s*t and t*t, s and t the student's and the teacher's probability of the masked classes."""
    exact = tl.where(s_odds > 0, s_odds + tl.log(1 + tl.exp(-s_odds)), tl.log(1 + tl.exp(s_odds)))
    s_mass, t_mass = 1 / (1 + tl.exp(-s_odds)), 1 / (1 + tl.exp(-t_odds))
    return tl.where(exact > -FLOOR, -FLOOR, exact), s_mass * t_mass, t_mass * t_mass


@triton.jit
def raised(t, kept):
    """Make the teacher's unmasked logits finite: a teacher that rules all of them out has a flat target over them."""
    return tl.where(kept & (t < FLOOR), FLOOR, t)


@triton.jit
def weighted(values, weight):
    """Multiply by weights; a location of weight 0 counts as 0 even if its value is not finite."""
    return tl.where(weight > 0, values * weight, 0.0)


@triton.jit
def location_loss(s, t, kept, here):
    """Compute losses, both models' log odds of the masked classes, and the gradient, of a tile that holds all classes."""
    e, s_kept, s_kept_sum, s_cut, s_cut_sum = exponentials(s, kept, here)
    s_top, s_sum, s_odds = whole(s_kept, s_kept_sum, s_cut, s_cut_sum)
    q = e * tl.exp(tl.where(kept, s_kept[None, :], s_cut[None, :]) - s_top[None, :]) / s_sum[None, :]
    e, t_kept, t_kept_sum, t_cut, t_cut_sum = exponentials(t, kept, here)
    t_odds = whole(t_kept, t_kept_sum, t_cut, t_cut_sum)[2]
    p = tl.where(kept, e / t_kept_sum[None, :], 0.0)
    log_ratio = (t - (t_kept + tl.log(t_kept_sum))[None, :]) - (s - (s_top + tl.log(s_sum))[None, :])
    return tl.sum(tl.where(p == 0.0, 0.0, p * log_ratio), 0), s_odds, t_odds, q - p


@triton.jit
def _at(pointer, a, b, sa, sb, sc, sp, c, p, WIDE: tl.constexpr):
    """Compute pointers to the classes ``c`` at the locations ``p`` of one slab ``(a, b)``."""
    slab = pointer + a.to(tl.int64) * sa + b.to(tl.int64) * sb
    if WIDE:
        return slab + c[:, None].to(tl.int64) * sc + p[None, :].to(tl.int64) * sp
    return slab + c[:, None] * sc + p[None, :] * sp


@triton.jit
def _forward(
    S, T, M, W, G, LOST, SUMS, FACTOR,
    C, B, P, blocks, s_scale, t_scale,
    s_a, s_b, s_p, t_a, t_b, t_p, m_a, m_b, m_p, g_a, g_b, g_p, l_a, l_b, l_p, w_a, w_b, w_p,
    s_c, t_c, m_c, g_c,
    BC: tl.constexpr, BP: tl.constexpr, WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr,
    TERMS: tl.constexpr, NONE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    slab = program // blocks
    a, b = slab // B, slab % B
    p = (program % blocks) * BP + tl.arange(0, BP)
    inside = p < P
    w = tl.where(inside, 1.0, 0.0)
    if WEIGHTED:
        w = tl.load(W + a.to(tl.int64) * w_a + b.to(tl.int64) * w_b + p.to(tl.int64) * w_p, mask=inside, other=0.0)
        w = w.to(tl.float32)
    factor = tl.load(FACTOR).to(tl.float32)
    c = tl.arange(0, BC)
    here = (c[:, None] < C) & inside[None, :]
    kept = here & (tl.load(_at(M, a, b, m_a, m_b, m_c, m_p, c, p, WIDE), mask=here, other=1) == 0)
    s = tl.load(_at(S, a, b, s_a, s_b, s_c, s_p, c, p, WIDE), mask=here, other=-float("inf")).to(tl.float32) * s_scale
    t = tl.load(_at(T, a, b, t_a, t_b, t_c, t_p, c, p, WIDE), mask=here, other=-float("inf")).to(tl.float32) * t_scale
    loss, s_odds, t_odds, step = location_loss(s, raised(t, kept), kept, here)
    if GRADIENT:
        place = _at(G, a, b, g_a, g_b, g_c, g_p, c, p, WIDE)
        tl.store(place, (step * (w * factor)[None, :]).to(G.dtype.element_ty), mask=here)
    if NONE:
        place = LOST + a.to(tl.int64) * l_a + b.to(tl.int64) * l_b + p.to(tl.int64) * l_p
        tl.store(place, weighted(loss, w), mask=inside)
    sums = SUMS + program.to(tl.int64) * 4
    tl.store(sums, tl.sum(weighted(loss, w), 0))
    if TERMS:
        forgotten, product, square = terms_of(s_odds, t_odds)
        tl.store(sums + 1, tl.sum(weighted(forgotten, w), 0))
        tl.store(sums + 2, tl.sum(weighted(product, w), 0))
        tl.store(sums + 3, tl.sum(weighted(square, w), 0))


def forward(call: Call, factor: Tensor, wants_gradient: bool) -> Result | None:
    """Run :func:`delete_tasks.losses.chunked.forward` as a kernel; None if the tensors' layouts differ too much for one."""
    student, classes, device = call.student, call.student.shape[1], call.student.device
    gradient = call.new_gradient() if wants_gradient else student
    per_location = call.reduction == "none"
    locations = (student.shape[0], *student.shape[2:])
    losses = torch.empty(locations if per_location else (1,) * len(locations), device=device)
    weight = torch.ones((), device=device) if call.weight is None else call.weight
    logits = (student, call.teacher, call.mask, gradient)  # all (N, C, *locations)
    layout = collapse(
        locations,
        [
            *((tensor.stride(0), *tensor.stride()[2:]) for tensor in logits),
            *(tensor.expand(locations).stride() for tensor in (losses, weight)),
        ],
    )
    if layout is None:
        return None
    (slabs, more, length), strides = layout
    block, width = _tile(classes, length, student.stride(1) == 1)
    blocks = triton.cdiv(length, width)
    sums = torch.empty(slabs * more * blocks, 4, device=device)
    _forward[(slabs * more * blocks,)](
        student, call.teacher, call.mask.view(torch.uint8), weight, gradient, losses, sums, factor,
        classes, more, length, blocks, *call.scales,
        *(step for steps in strides for step in steps), *(tensor.stride(1) for tensor in logits),
        BC=block, BP=width, WEIGHTED=call.weight is not None, GRADIENT=wants_gradient,
        TERMS=call.terms, NONE=per_location, WIDE=max(map(_last_offset, logits)) > LARGE,
        num_warps=max(4, min(16, block * width // 512)),
    )  # fmt: skip
    totals = sums[:, : 4 if call.terms else 1].sum(0, dtype=torch.float64)
    return Result(totals, losses if per_location else None, gradient if wants_gradient else None)


def collapse(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[Strides, list[Strides]] | None:
    """Merge dimensions of batch and locations that follow each other in the memory of every tensor, until three are left.

    Returns three sizes, filled up in front with 1, and each tensor's three strides; None if more than three are left.
    """
    merged: list[tuple[int, list[int]]] = []
    for size, *steps in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if merged and all(outer == inner * size for outer, inner in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * size, steps)
        else:
            merged.append((size, steps))
    if len(merged) > 3:
        return None
    a, b, c = [(1, [0] * len(strides))] * (3 - len(merged)) + merged
    return (a[0], b[0], c[0]), list(zip(a[1], b[1], c[1], strict=True))


def _last_offset(tensor: Tensor) -> int:
    return sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _tile(classes: int, length: int, classes_adjoin: bool) -> tuple[int, int]:
    """Choose the classes and locations of a tile: at least a line of locations if these are neighbours in memory."""
    block = triton.next_power_of_2(classes)
    width = TILE // block if classes_adjoin else max(TILE // block, min(LINE, 8 * TILE // block))
    return block, max(1, min(width, triton.next_power_of_2(length)))


@triton.jit
def _scale(G, FACTOR, size, BLOCK: tl.constexpr):
    factor = tl.load(FACTOR).to(tl.float32)
    if factor != 1.0:  # else no pass over the gradient is needed
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(G + at, mask=at < size).to(tl.float32) * factor
        tl.store(G + at, value.to(G.dtype.element_ty), mask=at < size)


def scale_in_place(gradient: Tensor, factor: Tensor) -> None:
    """Multiply a dense gradient by a 0-d factor in place, without a copy of the factor to the host."""
    size: Any = gradient.numel()
    _scale[(triton.cdiv(size, SCALE_BLOCK),)](gradient, factor, size, BLOCK=SCALE_BLOCK)
