"""Influence unlearning: one Newton step away from the forget set, its Hessian by WoodFisher."""

from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor

from ..errors import RequestError
from ..model.facts import Facts
from ..model.loss_point import LossInputs
from ..request.ranges import number, whole
from ..task import Run
from .base import LossSums
from .gradients import GradientHook, label_losses, share_left


def newton_direction(gradients: Tensor, damping: float) -> Tensor:
    """Compute ``F^-1 g`` with ``F = damping I + G^T G / n`` and g the mean of G's rows: WoodFisher's recursion as one
    system of n equations, ``G^T (n damping I + G G^T)^-1 1``, from G ``(n, d)`` and a damping above 0.

    Example:
        >>> newton_direction(torch.tensor([[3.0, 0.0]]), 1.0)
        tensor([0.3000, 0.0000])
    """
    size = gradients.abs().max().clamp(min=1e-30)  # so that no square overflows
    rows, n = gradients / size, len(gradients)
    inner = (rows @ rows.T).double() + n * damping / size.double() ** 2 * torch.eye(n, dtype=torch.float64)
    shares = torch.linalg.lstsq(inner, torch.ones(n, 1, dtype=torch.float64)).solution
    return (rows.T @ shares.to(rows.dtype))[:, 0] / size


@HOOKS.register_module()
class InfluenceUnlearning(GradientHook):
    """A Newton step away from the forget set, its Hessian by WoodFisher (arXiv 2304.04934).

    ``unlearn = dict(type='InfluenceUnlearning', classes=['car'])``. Koh and Liang's influence (ICML 2017), with the inverse
    Fisher matrix of Singh and Alistarh's WoodFisher (NeurIPS 2020, arXiv 2004.14340, eq. 9), as "Model Sparsity Can Simplify
    Machine Unlearning" (NeurIPS 2023, arXiv 2304.04934) uses them: ``w + a F^-1 g``, g the gradient of the forget set's loss.
    Needs the forget set alone, with labels.

    The first ``gradients`` steps collect a gradient each and change nothing. The paper also has the retain set's gradients in
    F, and searches the length ``a`` by hand. Here F is of the forget set's batches, and each later step goes further in this
    direction, by ``growth``, until at most ``left`` of a batch is still predicted as forgotten.

    Args:
        gradients: Number of batches for F and g; their gradients are held in memory, each as large as the model.
        damping: Value added to F's diagonal.
        first: Length of the first step, as a share of the weights' length.
        growth: Factor by which the distance from the original's weights grows with each step.
        left: The run ends when at most this share of a batch is still predicted as forgotten.
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = uses_retain_set = False
    needs_labels = True
    forget_use = "gradients computed from"
    saved = ("collected", "direction", "moves")

    def __init__(
        self,
        gradients: int = 30,
        damping: float = 1e-5,
        first: float = 1e-3,
        growth: float = 1.1,
        left: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.count = whole("unlearn.gradients", gradients, 1, 10_000)
        self.damping = number("unlearn.damping", damping, 0, 1e6, above=True)
        self.first = number("unlearn.first", first, 0, 1, above=True)
        self.growth = number("unlearn.growth", growth, 1, 10, above=True)
        self.left = number("unlearn.left", left, 0, 1)
        self.collected: list[Tensor] = []
        self.direction: Tensor | None = None  # with the norm of the original's weights
        self.moves = 0  # away from the original's weights, all in this direction
        self._share = 1.0

    def prepare(self, runner: Run, model: Any) -> None:
        self.check_steps(runner, self.count, "gradients")
        super().prepare(runner, model)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        self._share = share_left(student, self.ids, weight)
        return (label_losses(student, inputs.labels) * weight).sum(), {}, weight.sum()

    def before_step(self, runner: Run, step: int) -> None:
        if step < self.count:
            self.collected.append(self.gradients())
            self.keep_weights()
            return
        self.keep_weights()
        if self.direction is None:
            direction = newton_direction(torch.stack(self.collected), self.damping)
            weights = torch.sqrt(sum((p.detach().double() ** 2).sum().cpu() for p in self.parameters))  # type: ignore[arg-type]
            if not bool(direction.norm() > 0):
                raise RequestError("the forget set's loss has no gradient, so there is no direction; use type='DELETE'")
            self.direction, self.collected = direction * (weights / direction.double().norm()).float(), []
        elif self._share <= self.left:
            self.stop_run(runner, f"{self._share:.1%} of a batch was still predicted as forgotten")
            return
        done = step - self.count
        before = 0.0 if done == 0 else self.first * self.growth ** (done - 1)
        with torch.no_grad():
            for parameter, part in self.split((self.first * self.growth**done - before) * self.direction):
                parameter.add_(part.to(parameter.dtype))
        self.moves = done + 1

    def own_facts(self, facts: Facts) -> dict[str, Any]:
        facts.change("Newton steps", buffers=False, moves=self.moves)
        return {}
