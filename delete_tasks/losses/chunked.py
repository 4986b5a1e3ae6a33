"""The masked KL divergence in PyTorch, in chunks of locations, on any device."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ._common import Call, Result

# Elements (classes x locations) of a chunk. On a CPU a chunk and its few temporaries stay in the cache; on an accelerator a
# chunk occupies the device and is small compared with a full-resolution batch.
CPU_CHUNK = 1 << 17
DEVICE_CHUNK = 1 << 25
# Finite stand-ins for -inf in teacher logits: exp gives an exact 0, and 0 * (finite) is 0, while 0 * -inf is NaN. Masked classes
# are below the others: if all unmasked logits are -inf, the target is flat over the unmasked classes alone.
CUT, MASKED = -1e30, -2e30
LEAST = 1e-30  # least sum of exponentials with full precision


def forward(call: Call, factor: Tensor, wants_gradient: bool) -> Result:
    """Compute loss, sums and gradient, times the 0-d ``factor``, of a checked call with logits ``(N, C, *locations)``."""
    student, accumulate = call.student, call.accumulate
    length = math.prod(student.shape[2:])
    s_all, t_all = (flatten(logits).expand(-1, -1, length) for logits in (student, call.teacher))
    m_all = flatten(call.mask)
    w_all = None if call.weight is None else flatten(call.weight.unsqueeze(1)).squeeze(1)
    gradient = g_all = per_location = None
    if wants_gradient:
        last = student.ndim == 4 and student.is_contiguous(memory_format=torch.channels_last)
        gradient = torch.empty_like(student, memory_format=torch.channels_last if last else torch.contiguous_format)
        g_all = flatten(gradient)
    if call.reduction == "none":
        per_location = torch.empty(s_all.shape[0], length, dtype=accumulate, device=student.device)
    sums, (s_scale, t_scale), factor = call.new_sums(), call.scales, factor.to(accumulate)
    for rows, run in chunks(s_all.shape, student.device):
        s = s_all[rows, :, run].to(accumulate)
        t = t_all[rows, :, run].to(accumulate)
        s = s if s_scale == 1.0 else s * s_scale
        t = t if t_scale == 1.0 else t * t_scale
        m = m_all[rows, :, run if m_all.shape[2] > 1 else slice(None)]
        w = None if w_all is None else w_all[rows, run if w_all.shape[1] > 1 else slice(None)].to(accumulate)
        f = factor if w is None else w.unsqueeze(1) * factor
        loss = chunk_loss(s, t, m, w, sums, f, None if g_all is None else g_all[rows, :, run])
        if per_location is not None:
            per_location[rows, run] = loss if w is None else _weighted(loss, w)
    if per_location is not None:
        per_location = per_location.reshape(student.shape[0], *student.shape[2:])
    return Result(sums, per_location, gradient)


def chunk_loss(
    s: Tensor, t: Tensor, m: Tensor, w: Tensor | None, sums: Tensor, factor: Tensor, out: Tensor | None
) -> Tensor:
    """Compute the loss ``(n, l)`` of scaled logits ``(n, C, l)``; add to ``sums``, and write the gradient to ``out``. Takes one
    exponential per logit: with ``x = s - max s`` and ``y = t - max t``, the loss is ``sum p (y - x) - log sum e^y + log sum
    e^x``, the first two sums over unmasked classes. If these are too far below the masked ones, or logits are infinite, it takes
    the logarithms of all probabilities instead."""
    x, y = s - s.amax(1, keepdim=True), t - t.amax(1, keepdim=True)
    difference = y - x
    x.exp_()
    y.exp_()
    kept_x, cut_x, kept_y, cut_y = *groups(x, m), *groups(y, m)
    y.masked_fill_(m, 0.0)
    all_x = kept_x + cut_x
    loss = difference.mul_(y).sum(1).div_(kept_y).sub_(kept_y.log()).add_(all_x.log())
    least = torch.minimum(kept_x, kept_y) if len(sums) > 1 else kept_y
    if not bool((loss.isfinite() & (least > LEAST)).all()):
        return _logarithmic(s, t, m, w, sums, factor, out)
    add_to(sums, w, loss)
    if len(sums) > 1:
        s_mass, t_mass = cut_x / all_x, cut_y / (kept_y + cut_y)
        add_to(sums[1:], w, torch.log1p(cut_x / kept_x), s_mass * t_mass, t_mass * t_mass)
    if out is not None:
        x.mul_(factor / all_x.unsqueeze(1))
        y.mul_(factor / kept_y.unsqueeze(1))
        if out.dtype == x.dtype:
            torch.sub(x, y, out=out)
        else:
            out.copy_(x.sub_(y))
    return loss


def groups(values: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Sum ``(n, C, l)`` over the unmasked and over the masked classes, each ``(n, l)``."""
    if m.shape[2] == 1 and (m.shape[0] == 1 or m.stride(0) == 0):
        cut = m[0, :, 0]
        both = torch.stack([~cut, cut]).to(values.dtype) @ values
        return both[:, 0], both[:, 1]
    return values.masked_fill(m, 0.0).sum(1), (values * m).sum(1)


def _logarithmic(
    s: Tensor, t: Tensor, m: Tensor, w: Tensor | None, sums: Tensor, factor: Tensor, out: Tensor | None
) -> Tensor:
    """Compute :func:`chunk_loss` for any logits."""
    t_cut = t.masked_fill(m, CUT)
    log_q = s.log_softmax(1)
    p, parts = _parts(t_cut, log_q)
    loss = parts.sum(1)
    if bool(loss.isnan().any()):  # 0 * -inf: some logits are -inf
        t_cut = t.clamp(min=CUT).masked_fill_(m, MASKED)
        p, parts = _parts(t_cut, log_q)
        loss = parts.masked_fill_(p == 0, 0.0).sum(1)
    add_to(sums, w, loss)
    if len(sums) > 1:
        # log(1 - q_masked) from the unmasked classes themselves: 1 - q_masked rounds to 0 long before this does.
        forgetting = -log_q.masked_fill(m, CUT).logsumexp(1)
        s_mass = -torch.expm1(-forgetting)
        t_mass = -torch.expm1(t_cut.logsumexp(1) - t.logsumexp(1))
        add_to(sums[1:], w, forgetting, s_mass * t_mass, t_mass * t_mass)
    if out is not None:
        out.copy_(log_q.exp_().sub_(p).mul_(factor))
    return loss


def _parts(cut: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the target p and ``p (log p - log q)`` of every class."""
    log_p = cut.log_softmax(1)
    p = log_p.exp()
    return p, log_p.sub_(log_q).mul_(p)


def scaled(gradient: Tensor, scale: Tensor) -> Tensor:
    """Multiply a gradient that was saved for backward by ``scale``, 0-d or ``(N, 1, *locations)``, in the scale's precision, as
    half would round it: in place, or in a copy if the graph is kept."""
    retains = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    if retains is None or retains():  # retain_graph, or torch cannot tell: another backward pass may follow
        gradient = gradient.clone()
    if gradient.dtype in (torch.float32, torch.float64):
        if scale.numel() != 1 or scale.device.type != "cpu" or float(scale) != 1.0:
            gradient.mul_(scale.to(gradient.dtype))  # another dtype would promote a copy of the whole gradient
        return gradient
    flat = flatten(gradient)
    each = flatten(scale) if scale.numel() > 1 else scale
    for rows, run in chunks(flat.shape, gradient.device):
        flat[rows, :, run] = flat[rows, :, run] * (each[rows, :, run] if each.ndim else each)
    return gradient


def chunk_size(device: torch.device) -> int:
    """Return the number of elements of a chunk."""
    return CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK


def chunks(shape: torch.Size, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Divide ``(N, C, L)`` into blocks of about a chunk's elements: whole samples if they are small, else runs of L."""
    size = chunk_size(device)
    samples, classes, length = shape
    if samples == 0 or length == 0:
        return
    run = max(1, min(length, size // classes))
    group = max(1, size // (classes * length)) if run == length else 1
    for first in range(0, samples, group):
        for begin in range(0, length, run):
            yield slice(first, first + group), slice(begin, begin + run)


def flatten(tensor: Tensor) -> Tensor:
    """Flatten ``(N, C, *locations)`` to ``(N, C, L)``; L is 1 for a tensor expanded over all locations."""
    if tensor.ndim > 3 and 0 not in tensor.shape:
        locations = range(2, tensor.ndim)
        if all(tensor.stride(dim) == 0 or tensor.shape[dim] == 1 for dim in locations):
            return tensor[(slice(None), slice(None), *(slice(0, 1) for _ in locations))].flatten(2)
    return tensor.unsqueeze(2) if tensor.ndim == 2 else tensor.flatten(2)


def add_to(sums: Tensor, weight: Tensor | None, *values: Tensor) -> None:
    """Add ``sum(values * weight)`` of each; a location of weight 0 counts as 0 even if its value is not finite."""
    for i, each in enumerate(values):
        sums[i] += each.sum() if weight is None else _weighted(each, weight).sum()


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight > 0, values * weight, 0.0)
