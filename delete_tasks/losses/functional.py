"""Masked KL divergence: distillation to a teacher with classes taken out, per location, with a closed-form gradient.

Source: Zhou et al., "Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric Tasks",
CVPR 2025 (arXiv 2503.23751), the masked distillation target and eq. "KL(p_b||q_b) + p_rest KL(p^||q^)".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

REDUCTIONS = ("mean", "sum", "none")
# Elements (classes x locations) in work at once. On CPU a chunk and its few temporaries stay in the cache;
# on an accelerator the chunk is large enough to fill it and small beside a full-resolution batch.
CPU_CHUNK = 1 << 17
DEVICE_CHUNK = 1 << 25
# Stand in for -inf in teacher logits: exp gives an exact 0, and 0 * (finite) stays 0 where 0 * -inf is NaN. Masked classes lie
# below the others: a teacher that rules all of those out spreads its target over them, and none of it over the masked ones.
CUT, MASKED = -1e30, -2e30


class MaskedKLTerms(NamedTuple):
    """Weighted sums over the locations of one call, detached, float32 (float64 for float64 logits), 0-d.

    ``forgetting_term`` is ``-log(1 - q_masked)`` and ``retention_term`` is ``KL(p || q renormalised over unmasked
    classes)``; they add up to the loss, under its reduction ('none' reports their means). ``student_mass`` and
    ``teacher_mass`` are the sums over locations of ``t * s`` and ``t * t``, s and t being student's and teacher's
    probability of the masked classes: their ratio is the stop rule's measure. ``weight`` is the sum of weights.
    """

    forgetting_term: Tensor
    retention_term: Tensor
    student_mass: Tensor
    teacher_mass: Tensor
    weight: Tensor


def masked_kl_div(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: str = "mean",
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """``sum_c p (log p - log q)`` with ``p = softmax(teacher with masked classes at -inf)``, ``q = softmax(student)``.

    The gradient is ``softmax(student) - p``, masked classes included. Where nothing is masked this is plain
    distillation. Work is done chunk by chunk over locations; besides one tensor of the student's shape and dtype (the
    gradient, and only if the student needs one) no tensor of that size is made. Sums are kept in float32 whatever
    the logits' dtype (float64 for float64).

    A logit of -inf is a probability of 0. The loss is infinite where the student's is 0 and p is not; its gradient is finite.

    Args:
        student: Logits ``(N, C, *locations)``, floating point; the gradient flows here.
        teacher: Logits of the same shape, any floating dtype; no gradient flows here.
        mask: Boolean, broadcastable to the logits' shape; True takes a class out of the target at that location.
            Empty (all False) is allowed.
        weight: ``(N, *locations)`` or broadcastable to it, not negative; 0 leaves a location out.
        reduction: 'mean' (sum divided by the sum of weights; all weights zero give 0 with a zero gradient), 'sum' or
            'none' (``(N, *locations)``).
        temperature: Divides both logits; the loss is multiplied by its square.
        teacher_temperature: Divides the teacher's logits alone; below 1 the target goes to the nearest remaining class.
        return_terms: Also return :class:`MaskedKLTerms`.

    Returns:
        The loss, float32 (float64 for float64 logits): 0-d, or ``(N, *locations)`` for 'none'. With ``return_terms``
        a tuple of the loss and its terms.

    Raises:
        TypeError: A mask that is not boolean, logits that are not floating point.
        ValueError: Shapes that do not fit, a location where every class is masked, an unknown reduction, a
            temperature or teacher_temperature that is not positive, a negative weight.
        RuntimeError: When the gradient is itself differentiated (double backward).

    Example:
        >>> s = torch.zeros(1, 4, requires_grad=True)
        >>> t = torch.tensor([[8.0, 6.0, 1.0, 0.0]])
        >>> loss = masked_kl_div(s, t, torch.tensor([[True, True, False, False]]))
        >>> loss.backward()
        >>> [round(g, 3) for g in s.grad[0].tolist()]
        [0.25, 0.25, -0.481, -0.019]
    """
    mask, weight = _check(student, teacher, mask, weight, reduction, temperature, teacher_temperature)
    loss, *terms = _MaskedKL.apply(
        student, teacher, mask, weight, reduction, temperature, teacher_temperature, return_terms
    )
    return (loss, MaskedKLTerms(*terms)) if return_terms else loss


def masked_mass(logits: Tensor, mask: Tensor) -> Tensor:
    """Probability of the masked classes at every location: ``(N, C, *locations)`` -> ``(N, *locations)``, float32."""
    return logits.float().softmax(1).mul(mask).sum(1)


def _check(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    reduction: str,
    temperature: float,
    teacher_temperature: float,
) -> tuple[Tensor, Tensor | None]:
    if not (student.is_floating_point() and teacher.is_floating_point()):
        raise TypeError(f"logits must be floating point, got student {student.dtype} and teacher {teacher.dtype}")
    if student.ndim < 2 or student.shape != teacher.shape:
        raise ValueError(
            "student and teacher must both be (N, C, *locations), "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = class taken out), got {mask.dtype}; use mask.bool()")
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction '{reduction}'; expected one of {', '.join(REDUCTIONS)}")
    for name, value in (("temperature", temperature), ("teacher_temperature", teacher_temperature)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")
    try:
        mask = mask.to(student.device).expand(student.shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} cannot be broadcast to logits of shape {tuple(student.shape)}; "
            "give it (1, C, 1, ...) to mask classes everywhere, or one value per location"
        ) from error
    # Expanded dimensions repeat themselves: looking at their first index is enough, and keeps a class mask C values small.
    distinct = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]
    if mask.shape[1] > 0 and bool(distinct.all(1).any()):
        raise ValueError("the mask takes out every class at some location; leave at least one class unmasked there")
    if weight is not None:
        shape = (student.shape[0], *student.shape[2:])
        try:
            weight = weight.to(student.device).expand(shape)
        except RuntimeError as error:
            raise ValueError(
                f"weight of shape {tuple(weight.shape)} cannot be broadcast to the locations {shape}"
            ) from error
        if weight.numel() and bool((weight < 0).any()):
            raise ValueError(f"weights must not be negative, got a smallest value of {weight.min().item()}")
    return mask, weight


def _chunks(shape: torch.Size, size: int) -> Iterator[tuple[slice, ...]]:
    """Blocks of at most about ``size`` elements of ``(N, C, L)``: whole samples if they are small, else runs of L."""
    samples, classes, length = shape
    if samples == 0 or length == 0:
        return
    run = max(1, min(length, size // classes))
    group = max(1, size // (classes * length)) if run == length else 1
    for first in range(0, samples, group):
        for begin in range(0, length, run):
            yield slice(first, first + group), slice(begin, begin + run)


def _flatten(tensor: Tensor) -> Tensor:
    """``(N, C, *locations)`` -> ``(N, C, L)``; an expanded tensor keeps a length of 1 where it repeats itself."""
    if tensor.ndim > 3:
        repeats = all(
            stride == 0 or size == 1 for size, stride in zip(tensor.shape[2:], tensor.stride()[2:], strict=True)
        )
        if repeats and 0 not in tensor.shape:
            return tensor[(slice(None), slice(None)) + (slice(0, 1),) * (tensor.ndim - 2)].flatten(2)
    if tensor.ndim == 2:
        return tensor.unsqueeze(2)
    return tensor.flatten(2)


class _MaskedKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor,
        weight: Tensor | None,
        reduction: str,
        temperature: float,
        teacher_temperature: float,
        want_terms: bool,
    ) -> tuple[Tensor, ...]:
        accumulate = torch.float64 if student.dtype == torch.float64 else torch.float32
        length = math.prod(student.shape[2:])
        s_all, t_all = (_flatten(logits).expand(-1, -1, length) for logits in (student, teacher))
        m_all = _flatten(mask)
        w_all = None if weight is None else _flatten(weight.unsqueeze(1)).squeeze(1)
        gradient = torch.empty_like(s_all, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        per_location = None
        if reduction == "none":
            per_location = torch.empty(s_all.shape[0], s_all.shape[2], dtype=accumulate, device=student.device)
        sums = torch.zeros(5, dtype=torch.float64, device=student.device)  # loss, forgetting, t*s, t*t, weight

        scale = 1.0 / temperature
        limit = CPU_CHUNK if student.device.type == "cpu" else DEVICE_CHUNK
        for rows, run in _chunks(s_all.shape, limit):
            s = s_all[rows, :, run].to(accumulate)
            t = t_all[rows, :, run].to(accumulate)
            if temperature != 1.0:
                s = s * scale
            if temperature != 1.0 or teacher_temperature != 1.0:
                t = t * (scale / teacher_temperature)
            m = m_all[rows, :, run if m_all.shape[2] > 1 else slice(None)]
            w = None if w_all is None else w_all[rows, run if w_all.shape[1] > 1 else slice(None)].to(accumulate)
            t_cut = t.masked_fill(m, CUT)
            log_q = s.log_softmax(1)
            p, parts = _parts(t_cut, log_q)
            loss = parts.sum(1)
            if bool(loss.isnan().any()):  # 0 * -inf: some logits are -inf, which few models have
                t_cut = t.clamp(min=CUT).masked_fill_(m, MASKED)
                p, parts = _parts(t_cut, log_q)
                loss = parts.masked_fill_(p == 0, 0.0).sum(1)
            if want_terms:
                # log(1 - q_masked) from the unmasked classes themselves: 1 - q_masked rounds to 0 long before this does.
                forgetting = -log_q.masked_fill(m, CUT).logsumexp(1)
                s_mass = -torch.expm1(-forgetting)
                t_mass = -torch.expm1(t_cut.logsumexp(1) - t.logsumexp(1))
                _add(sums, 1, forgetting, w)
                _add(sums, 2, s_mass * t_mass, w)
                _add(sums, 3, t_mass * t_mass, w)
            _add(sums, 0, loss, w)
            sums[4] += loss.numel() if w is None else w.expand_as(loss).sum()
            if per_location is not None:
                per_location[rows, run] = loss if w is None else _weighted(loss, w)
            if gradient is not None:
                step = log_q.exp_().sub_(p)
                gradient[rows, :, run] = step if w is None else step.mul_(w.unsqueeze(1))

        square = temperature * temperature
        # Kept unnormalised: divided by millions of locations it would underflow in fp16. The division is in backward.
        divisor = torch.where(sums[4] > 0, sums[4], 1.0) if reduction == "mean" else torch.ones_like(sums[4])
        ctx.save_for_backward(gradient, divisor)
        ctx.shape, ctx.factor, ctx.reduction = student.shape, temperature, reduction
        if per_location is not None:
            out = (per_location * square).reshape(student.shape[0], *student.shape[2:])
        else:
            out = (sums[0] * square / divisor).to(accumulate)
        if not want_terms:
            return (out,)
        per = divisor if reduction != "none" else torch.where(sums[4] > 0, sums[4], 1.0)
        forgetting_term = sums[1] * square / per
        retention_term = (sums[0] * square / per - forgetting_term).clamp(min=0)
        terms = tuple(x.to(accumulate) for x in (forgetting_term, retention_term, sums[2], sums[3], sums[4]))
        ctx.mark_non_differentiable(*terms)
        return (out, *terms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradient, divisor = ctx.saved_tensors
        if _graph_is_kept():
            gradient = gradient.clone()  # another backward pass may follow
        # d(T^2 L(s / T))/ds = T * (softmax(s / T) - p)
        if ctx.reduction == "none":
            scale = (grad_output * ctx.factor).reshape(gradient.shape[0], 1, gradient.shape[2])
        else:
            scale = (grad_output * (ctx.factor / divisor)).reshape(1, 1, 1)
        _scale_in_place(gradient, scale)
        return (gradient.reshape(ctx.shape), *(None,) * 7)


def _parts(cut: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """The target p, and ``p (log p - log q)``, of every class."""
    log_p = cut.log_softmax(1)
    p = log_p.exp()
    return p, log_p.sub_(log_q).mul_(p)


def _graph_is_kept() -> bool:
    """Whether the running backward pass was asked to keep its graph (retain_graph); if torch cannot tell, yes."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return ask is None or ask()


def _scale_in_place(gradient: Tensor, scale: Tensor) -> None:
    """``gradient *= scale`` in the scale's precision: half-precision tensors would round, or flush, the scale itself."""
    if gradient.dtype in (torch.float32, torch.float64):
        gradient.mul_(scale.to(gradient.dtype))  # a scale of another dtype would promote a copy of the whole gradient
        return
    limit = CPU_CHUNK if gradient.device.type == "cpu" else DEVICE_CHUNK
    for rows, run in _chunks(gradient.shape, limit):
        part = scale if scale.numel() == 1 else scale[rows, :, run]
        gradient[rows, :, run] = gradient[rows, :, run] * part


def _add(sums: Tensor, index: int, values: Tensor, weight: Tensor | None) -> None:
    """Add ``sum(values * weight)``; a location of weight 0 stays out even if its value is not finite."""
    sums[index] += values.sum() if weight is None else _weighted(values, weight).sum()


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight > 0, values * weight, 0.0)
