"""SCRUB: divergence from the teacher maximised on the forget set, minimised on the retain set."""

from typing import Any

import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run
from .base import LossSums, UnlearnHook
from .gradients import label_losses, retain_weight


def distillation(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute ``T^2 KL(teacher || student)``, float32 ``(N, *locations)``, from logits ``(N, C, *locations)``."""
    log_q = (student.float() / temperature).log_softmax(1)
    log_p = (teacher.float() / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


@HOOKS.register_module()
class SCRUB(UnlearnHook):
    """Away from the original on the forget set, towards it on the retain set (NeurIPS 2023).

    ``unlearn = dict(type='SCRUB', classes=['deer'])`` with a labelled retain set. Kurmanji et al., "Towards Unbounded Machine
    Unlearning" (arXiv 2302.09880), eqs. 2 and 3: steps that maximise the divergence of teacher and student on the forget set take
    turns with steps that minimise ``alpha`` times the divergence plus ``gamma`` times the cross entropy on the retain set; the
    rest of the run minimises. The authors' values for CIFAR-10: temperature 4, alpha 0.001, gamma 0.99, Adam at 5e-4, norms
    training. They take turns by epochs, 2 or 3 of 3 to 10; here by steps, in the first ``forgetting`` of the run.

    Args:
        alpha, gamma: Weights of divergence and cross entropy on the retain set.
        temperature: Divides both logits.
        forgetting: Share of the run in which every second step maximises.
        options: See :class:`UnlearnHook`.
    """

    needs_labels = True
    needs_retain_set = retain_labels = True
    watches = False
    rate = 5e-4

    def __init__(
        self,
        alpha: float = 0.001,
        gamma: float = 0.99,
        temperature: float = 4.0,
        forgetting: float = 0.4,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.alpha, self.gamma = number("unlearn.alpha", alpha, 0, 1e3), number("unlearn.gamma", gamma, 0, 1e3)
        self.temperature = number("unlearn.temperature", temperature, 1e-3, 1000)
        self.forgetting = number("unlearn.forgetting", forgetting, 0, 1)
        self._turns = 0.0

    def prepare(self, runner: Run, model: nn.Module) -> None:
        self._turns = self.forgetting * runner.recipe.steps

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        retain = retain_weight("SCRUB", inputs)
        away = distillation(student, teacher, self.temperature)
        if self.step % 2 == 0 and self.step < self._turns:
            forget = self.forgotten_weight(inputs, weight)
            return -(away * forget).sum(), {}, forget.sum()
        losses = self.alpha * away + self.gamma * label_losses(student, inputs.labels)
        return (losses * retain).sum(), {}, retain.sum()
