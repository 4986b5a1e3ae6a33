"""Masked KL divergence: distillation to a teacher with masked classes, per location, with a closed-form gradient.

Source: Zhou et al., "Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric Tasks",
CVPR 2025 (arXiv 2503.23751), the masked distillation target and eq. "KL(p_b||q_b) + p_rest KL(p^||q^)".
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import by_rows, chunked
from ._common import Call, Result, check

Implementation = Callable[[Call, Tensor, bool], Result]


class MaskedKL(torch.autograd.Function):
    """Reductions, terms and gradient's scale around the ``forward`` of an implementation, such as :func:`.chunked.forward`;
    returns the loss and, with ``terms``, the five fields of :class:`MaskedKLTerms`."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, call: Call, implementation: Implementation) -> tuple[Tensor, ...]:
        if call.weight is None:
            locations = student.shape[0] * math.prod(call.mask.shape[2:])
            total = torch.as_tensor(float(locations), dtype=torch.float64, device=student.device)
        else:
            total = call.weight.sum(dtype=torch.float64)
        positive = torch.where(total > 0, total, 1.0)
        divisor = positive if call.reduction == "mean" else torch.ones_like(positive)
        # d(T^2 L(s / T))/ds = T * (softmax(s / T) - p)
        factor = (call.temperature / divisor).to(call.accumulate)
        # An fp16 gradient divided by millions of locations underflows, so it is divided in backward, after the loss scale.
        ctx.factor = factor if student.dtype == torch.float16 else None
        factor = torch.ones_like(factor) if student.dtype == torch.float16 else factor
        result = implementation(call, factor, ctx.needs_input_grad[0])
        ctx.save_for_backward(result.gradient)
        square = call.temperature**2
        total_loss = result.sums[0] * square
        loss = (total_loss / divisor).to(call.accumulate)
        if result.per_location is not None:
            loss = result.per_location * square
        if not call.terms:
            return (loss,)
        divisor = positive if call.reduction == "none" else divisor
        forgetting = result.sums[1] * square / divisor
        retention = (total_loss / divisor - forgetting).clamp(min=0)
        terms = tuple(x.to(call.accumulate) for x in (forgetting, retention, result.sums[2], result.sums[3], total))
        ctx.mark_non_differentiable(*terms)
        return (loss, *terms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_output if ctx.factor is None else grad_output * ctx.factor
        return chunked.scaled(ctx.saved_tensors[0], scale.unsqueeze(1) if scale.ndim else scale), None, None


class MaskedKLTerms(NamedTuple):
    """Weighted sums over the locations of one call, detached, float32 (float64 for float64 logits), 0-d.

    Attributes:
        forgetting_term: ``-log(1 - q_masked)``, under the loss's reduction (the mean for 'none').
        retention_term: ``KL(p || q renormalised over unmasked classes)``, likewise; both terms add up to the loss.
        student_mass, teacher_mass: Sums over locations of ``t * s`` and ``t * t``, with s and t the student's and the teacher's
            probability of the masked classes: the stop rule compares their ratio.
        weight: Sum of weights.
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
    """Compute ``sum_c p (log p - log q)`` with ``p = softmax(teacher with masked classes at -inf)``, ``q = softmax(student)``.

    The gradient is ``softmax(student) - p``, masked classes included. Without a masked class this is plain distillation.
    The computation goes over the locations in chunks; the gradient, if the student needs one, is the only new tensor of
    the student's size. Sums are float32 for all logits but float64 ones, for which they are float64.

    A logit of -inf is a probability of 0. The loss is infinite where the student's is 0 and p is not; its gradient is finite.

    Args:
        student: Logits ``(N, C, *locations)``, floating point; the gradient flows here.
        teacher: Logits of the same shape, any floating dtype; no gradient flows here.
        mask: Boolean, broadcastable to the logits' shape; True removes a class from the target at that location.
            All False is allowed.
        weight: ``(N, *locations)`` or broadcastable to it, not negative; 0 leaves a location out.
        reduction: 'mean' (sum divided by the sum of weights; all weights zero give 0 with a zero gradient), 'sum' or
            'none' (``(N, *locations)``).
        temperature: Divisor of both logits; the loss is multiplied by its square.
        teacher_temperature: Divisor of the teacher's logits alone; below 1 the target concentrates on the nearest class.
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
        >>> import torch
        >>> s = torch.zeros(1, 4, requires_grad=True)
        >>> t = torch.tensor([[8.0, 6.0, 1.0, 0.0]])
        >>> loss = masked_kl_div(s, t, torch.tensor([[True, True, False, False]]))
        >>> loss.backward()
        >>> [round(g, 3) for g in s.grad[0].tolist()]
        [0.25, 0.25, -0.481, -0.019]
    """
    call = Call(student, teacher, mask, weight, reduction, temperature, teacher_temperature, return_terms)
    return _apply(check(call), chunked.forward)


def masked_kl_div_upsampled(
    student: Tensor,
    teacher: Tensor,
    size: Sequence[int],
    mask: Tensor,
    *,
    align_corners: bool = False,
    weight: Tensor | None = None,
    reduction: str = "mean",
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """Compute :func:`delete_tasks.losses.masked_kl_div` of logits resized bilinearly to ``size``.

    The same value and gradient as ``masked_kl_div(interpolate(student, size, mode="bilinear"), ...)`` to 1e-5 in float32; no
    tensor of the full size times the classes is allocated. Made for a CPU: :class:`delete_tasks.model.loss_point.Upsample`
    resizes first on a GPU.

    Args:
        student, teacher: Logits ``(N, C, h, w)``, any floating dtype; the gradient flows to the student alone.
        size: ``(H, W)``, the size of the locations.
        mask: Boolean, broadcastable to ``(N, C, H, W)``; True removes a class from the target at that location.
        align_corners: See :func:`torch.nn.functional.interpolate`.
        weight: ``(N, H, W)`` or broadcastable to it, not negative; 0 leaves a location out.
        reduction: 'mean' or 'sum'.
        temperature, teacher_temperature, return_terms: See :func:`masked_kl_div`.

    Returns:
        The loss, 0-d, float32 (float64 for float64 logits); with ``return_terms`` a tuple of the loss and its terms.

    Raises:
        TypeError: A mask that is not boolean, logits that are not floating point.
        ValueError: As :func:`masked_kl_div`; logits that are not ``(N, C, h, w)``; reduction 'none', whose gradient needs
            each location's.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 3, 2, 2)
        >>> float(masked_kl_div_upsampled(logits, logits, (8, 8), torch.zeros(1, 3, 1, 1, dtype=torch.bool)))
        0.0
    """
    height, width = (int(side) for side in size)
    if student.ndim != 4 or height < 1 or width < 1:
        raise ValueError(
            f"logits (N, C, h, w) and a size (H, W) expected, got {tuple(student.shape)} and {tuple(size)}; use masked_kl_div"
        )
    if reduction == "none":
        raise ValueError("reduction 'none' needs every location's gradient; resize the logits and use masked_kl_div")
    call = Call(student, teacher, mask, weight, reduction, temperature, teacher_temperature, return_terms)
    return _apply(check(call, (height, width)), partial(by_rows.forward, align_corners))


def _apply(call: Call, implementation: Implementation) -> Any:
    """Compute the loss of a checked call, with its terms if the call asks for them."""
    loss, *terms = MaskedKL.apply(call.student, call, implementation)
    return (loss, MaskedKLTerms(*terms)) if call.terms else loss


class MaskedKLLoss(nn.Module):
    """Module form of :func:`delete_tasks.losses.masked_kl_div`, which documents options, shapes, dtypes and errors.

    Example:
        >>> import torch
        >>> criterion = MaskedKLLoss()
        >>> logits = torch.zeros(2, 3, 4, 4)
        >>> float(criterion(logits, logits, torch.zeros(1, 3, 1, 1, dtype=torch.bool)))
        0.0
    """

    def __init__(self, reduction: str = "mean", temperature: float = 1.0, teacher_temperature: float = 1.0) -> None:
        super().__init__()
        self.options: dict[str, Any] = dict(
            reduction=reduction, temperature=temperature, teacher_temperature=teacher_temperature
        )

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss of logits ``(N, C, *locations)``."""
        return masked_kl_div(student, teacher, mask, weight=weight, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def masked_mass(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the masked classes' probability, float32 ``(N, *locations)``, from logits ``(N, C, *locations)``."""
    return logits.float().softmax(1).mul(mask).sum(1)
