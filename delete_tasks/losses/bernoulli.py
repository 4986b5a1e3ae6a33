"""Masked Bernoulli KL: distillation of sigmoid scores to a teacher whose masked classes have probability 0."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import chunked
from ._common import REDUCTIONS, accumulation_dtype


class BernoulliTerms(NamedTuple):
    """Weighted sums over the locations of one call, detached, 0-d: the ``forgetting`` term ``sum -log(1 - q_c)`` over masked
    classes, the ``retention`` term ``sum KL(p_c || q_c)`` over the others, and the sum of ``weight``."""

    forgetting: Tensor
    retention: Tensor
    weight: Tensor


class _MaskedBernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor, mean: bool) -> Any:
        dtype = accumulation_dtype(student)
        s, t, m = (chunked.flatten(x) for x in (student, teacher, mask.expand_as(student)))
        w = chunked.flatten(weight.unsqueeze(1))
        gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
        g, sums = chunked.flatten(gradient), torch.zeros(2, dtype=torch.float64, device=student.device)
        for rows, run in chunked.chunks(s.shape, student.device):
            logits, target = s[rows, :, run].to(dtype), t[rows, :, run].to(dtype)
            masked, share = m[rows, :, run], w[rows, :, run].to(dtype)
            p = torch.where(masked, 0.0, target.sigmoid())
            # KL(p || q) = p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q)); of a masked class, p = 0: -log(1 - q).
            loss = F.softplus(logits) - p * logits
            entropy = torch.where(masked, 0.0, F.softplus(target) - p * target)
            parts = (torch.where(masked, loss, 0.0), torch.where(masked, 0.0, loss - entropy))
            sums += torch.stack([(part * share).sum(dtype=torch.float64) for part in parts])
            g[rows, :, run] = ((logits.sigmoid() - p) * share).to(g.dtype)
        total = w.sum(dtype=torch.float64)
        positive = torch.where(total > 0, total, 1.0)
        ctx.divisor = positive if mean else torch.ones_like(positive)
        ctx.save_for_backward(gradient)
        terms = (*((part / ctx.divisor).to(dtype) for part in sums), total.to(dtype))
        ctx.mark_non_differentiable(*terms)
        return (sums.sum() / ctx.divisor).to(dtype), *terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return chunked.scaled(ctx.saved_tensors[0], grad_output / ctx.divisor), None, None, None, None


def masked_bernoulli_kl(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: str = "mean",
    return_terms: bool = False,
) -> Any:
    """Compute ``sum_c KL(Bernoulli(p_c) || Bernoulli(q_c))`` with ``p = sigmoid(teacher)``, 0 for masked classes, and
    ``q = sigmoid(student)``: the masked distillation of arXiv 2503.23751 for classes that do not exclude each other.

    The gradient is ``sigmoid(student) - p``, masked classes included. The loss is the sum of a forgetting term, ``-log(1 - q_c)``
    over masked classes, and a retention term, the divergence of the others. The computation goes over the locations in chunks;
    the gradient is the only new tensor of the student's size.

    Args:
        student: Logits ``(N, C, *locations)``, floating point, finite; the gradient flows here.
        teacher: Logits of the same shape; no gradient flows here.
        mask: Boolean, broadcastable to the logits' shape; True sets the class's target to 0. All may be masked, or none.
        weight: ``(N, *locations)``, not negative; 0 leaves a location out.
        reduction: 'mean' (sum divided by the sum of weights; all weights zero give 0 with a zero gradient) or 'sum'.
        return_terms: Also return :class:`BernoulliTerms`.

    Returns:
        The loss, float32 (float64 for float64 logits), 0-d; with ``return_terms`` a tuple of the loss and its terms.

    Raises:
        TypeError: A mask that is not boolean.
        ValueError: Shapes that do not fit, an unknown reduction.

    Example:
        >>> s = torch.zeros(1, 2, requires_grad=True)
        >>> loss = masked_bernoulli_kl(s, torch.zeros(1, 2), torch.tensor([[True, False]]))
        >>> loss.backward()
        >>> s.grad.tolist()
        [[0.5, 0.0]]
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = class masked), got {mask.dtype}; use mask.bool()")
    if student.ndim < 2 or student.shape != teacher.shape:
        both = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher must both be (N, C, *locations), got {both}")
    if reduction not in REDUCTIONS[:2]:
        raise ValueError(f"unknown reduction '{reduction}'; expected one of {', '.join(REDUCTIONS[:2])}")
    places = (student.shape[0], *student.shape[2:])
    weight = torch.ones((), device=student.device) if weight is None else weight
    loss, *terms = _MaskedBernoulli.apply(student, teacher, mask, weight.expand(places), reduction == "mean")
    return (loss, BernoulliTerms(*terms)) if return_terms else loss
