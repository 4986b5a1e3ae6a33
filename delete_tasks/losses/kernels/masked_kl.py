"""The masked KL divergence as one Triton kernel, which reads student and teacher once and writes the gradient once.

A program takes a tile of locations with all of their classes. Beyond ``ONE_BLOCK`` classes it reads them in blocks, twice: for
the softmax's sums (online softmax, Milakov & Gimelshein, arXiv 1805.02867), then for the loss and the gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._common import Call, Result
from .maths import FLOOR, compare, exponentials, location_loss, merge, raised, terms_of, weighted, whole

ONE_BLOCK = 2048  # classes that one tile may hold
TILE = 2048  # elements of a tile: 16 of each tensor a thread, so that registers are left for several tiles at once
LINE = 32  # locations beside each other that a memory access should cover
SCALE_BLOCK = 4096
LARGE = 2**31 - 1  # offsets beyond it take 64 bits
Strides = tuple[int, int, int]


@triton.jit
def _at(pointer, a, b, sa, sb, sc, sp, c, p, WIDE: tl.constexpr):
    """Compute pointers to the classes ``c`` at the locations ``p`` of one slab ``(a, b)``."""
    slab = pointer + a.to(tl.int64) * sa + b.to(tl.int64) * sb
    if WIDE:
        return slab + c[:, None].to(tl.int64) * sc + p[None, :].to(tl.int64) * sp
    return slab + c[:, None] * sc + p[None, :] * sp


@triton.jit
def _read(
    S, T, M, a, b, c, p, inside, C, s_scale, t_scale,
    s_a, s_b, s_c, s_p, t_a, t_b, t_c, t_p, m_a, m_b, m_c, m_p, WIDE: tl.constexpr,
):  # fmt: skip
    """Load student's and teacher's logits of a tile, with masks of the existing and of the unmasked elements."""
    here = (c[:, None] < C) & inside[None, :]
    kept = here & (tl.load(_at(M, a, b, m_a, m_b, m_c, m_p, c, p, WIDE), mask=here, other=1) == 0)
    s = tl.load(_at(S, a, b, s_a, s_b, s_c, s_p, c, p, WIDE), mask=here, other=-float("inf"))
    t = tl.load(_at(T, a, b, t_a, t_b, t_c, t_p, c, p, WIDE), mask=here, other=-float("inf"))
    return s.to(tl.float32) * s_scale, raised(t.to(tl.float32) * t_scale, kept), here, kept


@triton.jit
def _forward(
    S, T, M, W, G, LOST, SUMS, FACTOR,
    C, B, P, blocks, s_scale, t_scale,
    s_a, s_b, s_p, t_a, t_b, t_p, m_a, m_b, m_p, g_a, g_b, g_p, l_a, l_b, l_p, w_a, w_b, w_p,
    s_c, t_c, m_c, g_c,
    BC: tl.constexpr, BP: tl.constexpr, ONLINE: tl.constexpr, WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr,
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
    if ONLINE:
        low, zero = tl.full((BP,), FLOOR, tl.float32), tl.zeros((BP,), tl.float32)
        s_kept, s_kept_sum, s_cut, s_cut_sum = low, zero, low, zero
        t_kept, t_kept_sum, t_cut, t_cut_sum = low, zero, low, zero
        for first in range(0, C, BC):
            s, t, here, kept = _read(
                S, T, M, a, b, first + c, p, inside, C, s_scale, t_scale,
                s_a, s_b, s_c, s_p, t_a, t_b, t_c, t_p, m_a, m_b, m_c, m_p, WIDE,
            )  # fmt: skip
            _, top, top_sum, other, other_sum = exponentials(s, kept, here)
            s_kept, s_kept_sum = merge(s_kept, s_kept_sum, top, top_sum)
            s_cut, s_cut_sum = merge(s_cut, s_cut_sum, other, other_sum)
            _, top, top_sum, other, other_sum = exponentials(t, kept, here)
            t_kept, t_kept_sum = merge(t_kept, t_kept_sum, top, top_sum)
            t_cut, t_cut_sum = merge(t_cut, t_cut_sum, other, other_sum)
        s_top, s_sum, s_odds = whole(s_kept, s_kept_sum, s_cut, s_cut_sum)
        _, _, t_odds = whole(t_kept, t_kept_sum, t_cut, t_cut_sum)
        s_log, t_log = tl.log(s_sum), tl.log(t_kept_sum)
        loss = zero
        for first in range(0, C, BC):
            s, t, here, kept = _read(
                S, T, M, a, b, first + c, p, inside, C, s_scale, t_scale,
                s_a, s_b, s_c, s_p, t_a, t_b, t_c, t_p, m_a, m_b, m_c, m_p, WIDE,
            )  # fmt: skip
            target = tl.where(kept, tl.exp(t - t_kept[None, :]) / t_kept_sum[None, :], 0.0)
            loss += tl.sum(compare(s, t, s_top, s_log, t_kept, t_log, target), 0)
            if GRADIENT:
                step = (tl.exp(s - s_top[None, :]) / s_sum[None, :] - target) * (w * factor)[None, :]
                place = _at(G, a, b, g_a, g_b, g_c, g_p, first + c, p, WIDE)
                tl.store(place, step.to(G.dtype.element_ty), mask=here)
    else:
        s, t, here, kept = _read(
            S, T, M, a, b, c, p, inside, C, s_scale, t_scale,
            s_a, s_b, s_c, s_p, t_a, t_b, t_c, t_p, m_a, m_b, m_c, m_p, WIDE,
        )  # fmt: skip
        loss, s_odds, t_odds, step = location_loss(s, t, kept, here)
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
        BC=block, BP=width, ONLINE=classes > ONE_BLOCK, WEIGHTED=call.weight is not None, GRADIENT=wants_gradient,
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
    if classes > ONE_BLOCK:
        block = 4 * TILE if classes_adjoin or length == 1 else TILE // LINE
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
