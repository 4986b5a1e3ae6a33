"""Bilinear resize and masked KL divergence as one Triton kernel; each program computes the full-size logits of its own cells.

A cell lies between four neighbouring logits. Its pixels are mixtures of these, so a program reads the four once, loops over the
pixels, and sums the gradient of each corner in registers. Corners are added up afterwards, in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._common import Axis, Call, Result
from .maths import location_loss, raised, terms_of, weighted

TILE = 512  # classes x cells of a tile; twelve such tiles are in registers


@triton.jit
def _corner(X, n, row, column, c, here, scale, x_n, x_c, x_h, x_w):
    """Load the logits ``(classes, cells)`` of one row at the columns ``column``."""
    at = X + n.to(tl.int64) * x_n + row.to(tl.int64) * x_h + c[:, None].to(tl.int64) * x_c + column[None, :] * x_w
    return tl.load(at, mask=here, other=0.0).to(tl.float32) * scale


@triton.jit
def _forward(
    S, T, M, W, CORNERS, SUMS, FACTOR, FIRST_Y, SHARE_Y, FIRST_X, SHARE_X,
    C, h, w, samples, blocks, s_scale, t_scale,
    s_n, s_c, s_h, s_w, t_n, t_c, t_h, t_w, m_n, m_c, m_h, m_w, w_n, w_h, w_w, most,
    BC: tl.constexpr, BJ: tl.constexpr, WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    slab = program // blocks
    n, i = slab // (h + 1), slab % (h + 1)
    j = (program % blocks) * BJ + tl.arange(0, BJ)
    c = tl.arange(0, BC)
    real = c[:, None] < C
    here = real & (j[None, :] <= w)
    above, below = tl.maximum(i - 1, 0), tl.minimum(i, h - 1)
    left, right = tl.minimum(tl.maximum(j - 1, 0), w - 1), tl.minimum(j, w - 1)
    s_al = _corner(S, n, above, left, c, here, s_scale, s_n, s_c, s_h, s_w)
    s_ar = _corner(S, n, above, right, c, here, s_scale, s_n, s_c, s_h, s_w)
    s_bl = _corner(S, n, below, left, c, here, s_scale, s_n, s_c, s_h, s_w)
    s_br = _corner(S, n, below, right, c, here, s_scale, s_n, s_c, s_h, s_w)
    t_al = _corner(T, n, above, left, c, here, t_scale, t_n, t_c, t_h, t_w)
    t_ar = _corner(T, n, above, right, c, here, t_scale, t_n, t_c, t_h, t_w)
    t_bl = _corner(T, n, below, left, c, here, t_scale, t_n, t_c, t_h, t_w)
    t_br = _corner(T, n, below, right, c, here, t_scale, t_n, t_c, t_h, t_w)
    start = tl.load(FIRST_X + j, mask=j <= w, other=0)
    end = tl.load(FIRST_X + j + 1, mask=j <= w, other=0)
    factor = tl.load(FACTOR).to(tl.float32)
    zero, none = tl.zeros((BC, BJ), tl.float32), tl.zeros((BJ,), tl.float32)
    g_al, g_ar, g_bl, g_br = zero, zero, zero, zero
    total, forgotten, product, square = none, none, none, none
    for y in range(tl.load(FIRST_Y + i), tl.load(FIRST_Y + i + 1)):
        down = tl.load(SHARE_Y + y)
        s_l, s_r = s_al + down * (s_bl - s_al), s_ar + down * (s_br - s_ar)
        t_l, t_r = t_al + down * (t_bl - t_al), t_ar + down * (t_br - t_ar)
        g_l, g_r = zero, zero
        for k in range(0, most):
            x = start + k
            inside = x < end
            across = tl.load(SHARE_X + x, mask=inside, other=0.0)
            place = M + n.to(tl.int64) * m_n + y * m_h + c[:, None].to(tl.int64) * m_c + x[None, :] * m_w
            kept = real & (tl.load(place, mask=real & inside[None, :], other=0) == 0)
            v = tl.where(inside, 1.0, 0.0)
            if WEIGHTED:
                place = W + n.to(tl.int64) * w_n + y * w_h + x * w_w
                v = tl.load(place, mask=inside, other=0.0).to(tl.float32)
            s = tl.where(real, s_l + across[None, :] * (s_r - s_l), -float("inf"))
            t = tl.where(real, t_l + across[None, :] * (t_r - t_l), -float("inf"))
            loss, s_odds, t_odds, step = location_loss(s, raised(t, kept), kept, real & (j[None, :] >= 0))
            total += weighted(loss, v)
            if TERMS:
                forgetting, s_t, t_t = terms_of(s_odds, t_odds)
                forgotten += weighted(forgetting, v)
                product += weighted(s_t, v)
                square += weighted(t_t, v)
            if GRADIENT:
                step = weighted(step, v[None, :])
                g_l += (1 - across[None, :]) * step
                g_r += across[None, :] * step
        g_al += (1 - down) * g_l
        g_ar += (1 - down) * g_r
        g_bl += down * g_l
        g_br += down * g_r
    if GRADIENT:  # CORNERS is (4, N, h + 1, C, w + 1)
        corner = samples.to(tl.int64) * (h + 1) * C * (w + 1)
        at = CORNERS + slab.to(tl.int64) * C * (w + 1) + c[:, None] * (w + 1) + j[None, :]
        tl.store(at, g_al * factor, mask=here)
        tl.store(at + corner, g_ar * factor, mask=here)
        tl.store(at + 2 * corner, g_bl * factor, mask=here)
        tl.store(at + 3 * corner, g_br * factor, mask=here)
    sums = SUMS + program.to(tl.int64) * 4
    tl.store(sums, tl.sum(total, 0))
    if TERMS:
        tl.store(sums + 1, tl.sum(forgotten, 0))
        tl.store(sums + 2, tl.sum(product, 0))
        tl.store(sums + 3, tl.sum(square, 0))


def forward(align_corners: bool, call: Call, factor: Tensor, wants_gradient: bool) -> Result:
    """Run :func:`delete_tasks.losses.by_rows.forward` as a kernel."""
    student, mask = call.student, call.mask
    (samples, classes, h, w), size, device = student.shape, mask.shape[2:], student.device
    vertical, horizontal = Axis(h, size[0], align_corners), Axis(w, size[1], align_corners)
    tables = [table.to(device) for axis in (vertical, horizontal) for table in (axis.first, axis.share)]
    most = int(horizontal.first.diff().max())
    block = triton.next_power_of_2(classes)
    cells = max(1, min(TILE // block, triton.next_power_of_2(w + 1)))
    blocks = triton.cdiv(w + 1, cells)
    programs = samples * (h + 1) * blocks
    sums = torch.empty(programs, 4, device=device)
    corners = torch.empty((4, samples, h + 1, classes, w + 1) if wants_gradient else (1,), device=device)
    weight = torch.ones((), device=device).expand(samples, *size) if call.weight is None else call.weight
    _forward[(programs,)](
        student, call.teacher, mask.view(torch.uint8), weight, corners, sums, factor, *tables,
        classes, h, w, samples, blocks, *call.scales,
        *student.stride(), *call.teacher.stride(), *mask.stride(), *weight.stride(), most,
        BC=block, BJ=cells, WEIGHTED=call.weight is not None, GRADIENT=wants_gradient, TERMS=call.terms,
        num_warps=max(4, min(16, block * cells // 512)),
    )  # fmt: skip
    totals = sums[:, : 4 if call.terms else 1].sum(0, dtype=torch.float64)
    return Result(totals, None, _add_corners(corners).to(student.dtype) if wants_gradient else None)


def _add_corners(corners: Tensor) -> Tensor:
    """Add up the gradients of cells' corners ``(4, N, h + 1, C, w + 1)`` to those of the logits ``(N, C, h, w)``."""
    rows = _add_side(corners[:2], 2, 1) + _add_side(corners[2:], 2, 0)
    return (_add_side(rows[0], 3, 1) + _add_side(rows[1], 3, 0)).transpose(1, 2).contiguous()


def _add_side(corners: Tensor, dim: int, earlier: int) -> Tensor:
    """Add the gradients of corners on one side: cell ``i`` reads logit ``i - earlier``. The first cell's earlier logit is the
    first, the last cell's later logit (``earlier`` 0) the last."""
    out = corners.narrow(dim, earlier, corners.shape[dim] - 1).clone()
    out.select(dim, earlier - 1).add_(corners.select(dim, earlier - 1))
    return out
