"""SalUn: random labels, taught to the weights that matter for the forget set alone."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor

from ..errors import RequestError
from ..model.loss_point import LossInputs
from ..request.ranges import number, whole
from ..task import Run
from .gradients import GradientHook, label_losses, random_kept, retain_weight


@HOOKS.register_module()
class SalUn(GradientHook):
    """Random labels, and the retain set's own, for the most salient weights alone (ICLR 2024).

    ``unlearn = dict(type='SalUn', classes=['deer'])`` with a labelled retain set. Fan et al., "SalUn" (arXiv 2310.12508), eqs. 3
    to 5: the first ``saliency_steps`` steps add up the gradient of the forget set's loss and change nothing; then only the
    ``share`` of all weights with the largest gradient trains, on random kept classes for the forget set and on the labels of the
    retain set. The recipe is the authors' for CIFAR-10 and a ResNet-18: SGD with momentum 0.9 and rate 0.013, norms
    training; they train for 10 epochs, here it is 200 steps. Their weight decay, 5e-4, is left out: it would move the
    other weights, too.

    Args:
        share: Of the weights that train; the authors' value.
        saliency_steps: Batches of the forget set whose gradients choose them; the authors take a whole epoch.
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    needs_retain_set = True
    rate = 0.013

    def __init__(self, share: float = 0.5, saliency_steps: int = 20, **options: Any) -> None:
        super().__init__(**options)
        self.share = number("unlearn.share", share, 0, 1, above=True)
        self.saliency_steps = whole("unlearn.saliency_steps", saliency_steps, 1, 10**6)
        self.sum: Tensor | None = None
        self.mask: Tensor | None = None
        self._step_now = 0

    def prepare(self, runner: Run, model: Any) -> None:
        if runner.recipe.steps <= self.saliency_steps:
            raise RequestError(
                f"SalUn chooses weights in {self.saliency_steps} steps and then trains, and steps is {runner.recipe.steps}; take "
                "more steps, or fewer unlearn.saliency_steps"
            )
        super().prepare(runner, model)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        self._step_now = batch_idx // runner.accumulation

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        forget = self.forgotten_weight(inputs, weight)
        retain = retain_weight("SalUn", inputs)
        labels: Tensor = inputs.labels  # type: ignore[assignment]
        if self._step_now < self.saliency_steps:
            return (label_losses(student, labels) * forget).sum(), {}, forget.sum()
        drawn = random_kept(tuple(labels.shape), student.shape[1], self.ids, student.device)
        taught = torch.where(forget > 0, drawn, labels)
        both = forget + retain
        return (label_losses(student, taught) * both).sum(), {}, both.sum()

    def before_step(self, runner: Run, step: int) -> None:
        if step < self.saliency_steps:
            now = self.gradients()
            self.sum = now if self.sum is None else self.sum + now
            self.keep_weights()
            return
        if self.mask is None:
            size = self.sum.abs()  # type: ignore[union-attr]
            most = max(1, round(self.share * len(size)))
            self.mask = torch.zeros(len(size), dtype=torch.bool)
            self.mask[size.topk(most).indices] = True
            self.sum = None
        begin = 0
        for parameter in self.parameters:
            part = self.mask[begin : begin + parameter.numel()].view_as(parameter).to(parameter.device)
            begin += parameter.numel()
            if parameter.grad is not None:
                parameter.grad.mul_(part)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sum": self.sum, "mask": self.mask}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.sum, self.mask = state["sum"], state["mask"]
