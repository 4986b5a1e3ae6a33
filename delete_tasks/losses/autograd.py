"""The masked KL divergence as one autograd node; its forward pass computes the gradient."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import chunked, kernels
from ._common import Call, Result

Implementation = Callable[[Call, Tensor, bool], Result]


class MaskedKL(torch.autograd.Function):
    """Reductions, terms and the gradient's scale around the ``forward`` of an implementation, such as :func:`.chunked.forward`.

    Returns the loss and, with ``terms``, the five fields of :class:`.functional.MaskedKLTerms`.
    """

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
        (gradient,) = ctx.saved_tensors
        retains = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
        if retains is None or retains():  # retain_graph, or torch cannot tell: another backward pass may follow
            gradient = gradient.clone()
        scale = grad_output if ctx.factor is None else grad_output * ctx.factor
        if scale.ndim or not kernels.runs_on(gradient):
            chunked.scale_in_place(gradient, scale.unsqueeze(1) if scale.ndim else scale)
        else:
            kernels.load("masked_kl").scale_in_place(gradient, scale)
        return gradient, None, None


def locations_forward(call: Call, factor: Tensor, wants_gradient: bool) -> Result:
    """Run the kernel if it supports these logits, else PyTorch."""
    result = kernels.load("masked_kl").forward(call, factor, wants_gradient) if kernels.support(call) else None
    return chunked.forward(call, factor, wants_gradient) if result is None else result
