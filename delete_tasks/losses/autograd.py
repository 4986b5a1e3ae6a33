"""The masked KL divergence as one autograd node, whose gradient is made on the way forward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import chunked
from ._common import Options, Result
from .kernels import kernels_for, load, runs_on


class MaskedKL(torch.autograd.Function):
    """``forward`` of an implementation, such as :func:`.chunked.forward`, and what every one of them shares: reductions, terms,
    and the gradient's scale. Returns the loss and, if wanted, the five of :class:`.functional.MaskedKLTerms`."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor,
        weight: Tensor | None,
        options: Options,
        implementation: Callable[..., Result],
        locations: int,
    ) -> tuple[Tensor, ...]:
        accumulate = torch.float64 if student.dtype == torch.float64 else torch.float32
        total = torch.as_tensor(float(locations), dtype=torch.float64, device=student.device)
        if weight is not None:
            total = weight.sum(dtype=torch.float64)
        some = torch.where(total > 0, total, 1.0)
        divisor = some if options.reduction == "mean" else torch.ones_like(some)
        # d(T^2 L(s / T))/ds = T * (softmax(s / T) - p)
        factor = (options.temperature / divisor).to(accumulate)
        # In fp16 it waits for backward, where a loss scale meets it: divided by millions of locations a gradient underflows.
        ctx.factor = factor if student.dtype == torch.float16 else None
        now = torch.ones_like(factor) if student.dtype == torch.float16 else factor
        found = implementation(student, teacher, mask, weight, options, now, ctx.needs_input_grad[0])
        ctx.save_for_backward(found.gradient)
        square = options.temperature**2
        each, lost = found.per_location, found.sums[0] * square
        out = (lost / divisor).to(accumulate) if each is None else each * square
        if not options.terms:
            return (out,)
        per = divisor if options.reduction != "none" else some
        forgetting = found.sums[1] * square / per
        retention = (lost / per - forgetting).clamp(min=0)
        terms = tuple(x.to(accumulate) for x in (forgetting, retention, found.sums[2], found.sums[3], total))
        ctx.mark_non_differentiable(*terms)
        return (out, *terms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if _graph_is_kept():
            gradient = gradient.clone()  # another backward pass may follow
        scale = grad_output if ctx.factor is None else grad_output * ctx.factor
        if scale.ndim:
            chunked.scale_in_place(gradient, scale.unsqueeze(1))
        elif runs_on(gradient):
            load("masked_kl").scale_in_place(gradient, scale)
        else:
            chunked.scale_in_place(gradient, scale)
        return (gradient, *(None,) * 6)


def locations_forward(student: Tensor, teacher: Tensor, *rest: Any) -> Result:
    """Run the kernel if it supports these logits, else PyTorch."""
    kernels = kernels_for(student, teacher)
    found: Result | None = None if kernels is None else kernels.forward(student, teacher, *rest)
    return chunked.forward(student, teacher, *rest) if found is None else found


def _graph_is_kept() -> bool:
    """Return True if the running backward pass keeps its graph (retain_graph), or torch cannot tell."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return ask is None or ask()
