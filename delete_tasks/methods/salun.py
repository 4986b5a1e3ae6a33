"""SalUn: random labels, trained on the weights most salient for the forget set."""

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
from .gradients import GradientHook, label_losses, random_retained, retain_weight


@HOOKS.register_module()
class SalUn(GradientHook):
    """Random labels for the forget set, true ones for the retain set, in the most salient weights alone (ICLR 2024).

    ``unlearn = dict(type='SalUn', classes=['deer'])`` with a labelled retain set. Fan et al., "SalUn" (arXiv 2310.12508), eqs. 3
    to 5: the first ``saliency_steps`` steps add up the gradient of the forget set's loss and change nothing; then only the
    ``share`` of all weights with the largest gradient trains, on random retained classes for the forget set and on the retain
    set's labels. The recipe is the authors' for CIFAR-10 and a ResNet-18: SGD with momentum 0.9 and rate 0.013, norms training;
    they train for 10 epochs, here 200 steps. Their weight decay, 5e-4, is left out: it would move the other weights as well.

    Args:
        share: Share of the weights that train; the authors' value.
        saliency_steps: Number of forget set batches whose gradients choose these weights; the authors take a whole epoch.
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    needs_retain_set = retain_labels = True
    rate = 0.013
    saved = ("sum", "mask")

    def __init__(self, share: float = 0.5, saliency_steps: int = 20, **options: Any) -> None:
        super().__init__(**options)
        self.share = number("unlearn.share", share, 0, 1, above=True)
        self.saliency_steps = whole("unlearn.saliency_steps", saliency_steps, 1, 10**6)
        self.sum: Tensor | None = None
        self.mask: Tensor | None = None

    def prepare(self, runner: Run, model: Any) -> None:
        if runner.recipe.steps <= self.saliency_steps:
            raise RequestError(
                f"SalUn collects gradients in its first {self.saliency_steps} steps, and steps is {runner.recipe.steps}; take "
                "more steps, or fewer unlearn.saliency_steps"
            )
        super().prepare(runner, model)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        forget = self.forgotten_weight(inputs, weight)
        retain = retain_weight("SalUn", inputs)
        labels: Tensor = inputs.labels  # type: ignore[assignment]
        if self.step < self.saliency_steps:
            return (label_losses(student, labels) * forget).sum(), {}, forget.sum()
        drawn = random_retained(tuple(labels.shape), student.shape[1], self.ids, student.device)
        weight = forget + retain
        return (label_losses(student, torch.where(forget > 0, drawn, labels)) * weight).sum(), {}, weight.sum()

    def own_facts(self, facts: Facts) -> dict[str, Any]:
        return {"share_of_weights": float(self.mask.float().mean())}  # type: ignore[union-attr]

    def before_step(self, runner: Run, step: int) -> None:
        if step < self.saliency_steps:
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            gradient = torch.cat([part.detach().float().flatten().cpu() for part in parts])
            self.sum = gradient if self.sum is None else self.sum + gradient
            self.keep_weights()
            return
        if self.mask is None:
            size = self.sum.abs()  # type: ignore[union-attr]
            self.mask = torch.zeros(len(size), dtype=torch.bool)
            self.mask[size.topk(max(1, round(self.share * len(size)))).indices] = True
            self.sum = None
        masks = self.mask.split([parameter.numel() for parameter in self.parameters])
        for parameter, mask in zip(self.parameters, masks, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(mask.view_as(parameter).to(parameter.device))
