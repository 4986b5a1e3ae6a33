"""L2UL: gradient ascent on the forget set, with adversarial examples of it in place of a retain set."""

from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor
from torch.nn.functional import normalize

from ..model.loss_point import LossInputs
from ..request.ranges import number, whole
from ..task import Run
from .adversarial import AdversarialHook, Gradient
from .base import LossSums
from .gradients import label_losses, random_retained, share_left


@HOOKS.register_module()
class L2UL(AdversarialHook):
    """Gradient ascent, with adversarial examples in place of a retain set (AAAI 2024).

    ``unlearn = dict(type='L2UL', classes=['car'])``. Cha et al., "Learning to Unlearn" (arXiv 2301.11578), eq. 3 ("Adv"): minus
    the cross entropy on the forget set, and the cross entropy of adversarial examples made from it to the class they were made
    for, which stand for samples of that class. Needs the forget set alone, with labels. As the authors: targeted attacks
    of the original within an L2 ball of radius 0.4, steps of 0.1, random retained targets; SGD at 1e-3 with momentum 0.9.

    The authors make the examples before they train, with 100 steps each, and add both losses in each step. Here every second step
    uses adversarial examples of its own batch, made with ``attack_steps`` steps. Their weight importance is left out. A run
    ends, as theirs, when nothing is predicted as forgotten, here in one batch; the loss has no lower bound.

    Args:
        radius: Largest length of an input's change, in the units in which the model takes it.
        attack_size: Length of a step of the attack.
        attack_steps: Number of steps of the attack.
        left: The run ends when at most this share of a batch is still predicted as forgotten.
        options: See :class:`UnlearnHook`.
    """

    rate = 1e-3
    student_reads_change = True

    def __init__(
        self, radius: float = 0.4, attack_size: float = 0.1, attack_steps: int = 10, left: float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.radius = number("unlearn.radius", radius, 0, 1e6, above=True)
        self.attack_size = number("unlearn.attack_size", attack_size, 0, 1e6, above=True)
        self.attack_steps = whole("unlearn.attack_steps", attack_steps, 1, 10_000)
        self.left = number("unlearn.left", left, 0, 1)
        self._share = 1.0  # share of this batch that is predicted as forgotten
        self._targets: Tensor | None = None  # (N,), of this batch

    @property
    def _attacks(self) -> bool:
        """True in every second step, which uses adversarial examples."""
        return self.step % 2 == 1

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not self._attacks and self._share <= self.left:
            self.stop_run(runner, f"{self._share:.1%} of a batch was still predicted as forgotten")

    def change(self, inputs: Tensor, gradient: Gradient) -> Tensor:
        self._targets = None
        changed = inputs
        for _ in range(self.attack_steps if self._attacks else 0):
            step = self.attack_size * normalize(gradient(changed, self._targets_like).flatten(1)).view_as(inputs)
            changed = inputs + torch.renorm(changed - step - inputs, 2, 0, self.radius)
        return changed

    def _targets_like(self, labels: Any, classes: int) -> Tensor:
        """Draw one random remaining class per sample, the same in all steps of the attack, of the labels' shape."""
        if self._targets is None:
            self._targets = random_retained((len(labels),), classes, self.ids, labels.device)
        return self._targets.view(-1, *[1] * (labels.ndim - 1)).expand_as(labels)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        if self._attacks:
            losses = label_losses(student, self._targets_like(inputs.labels, student.shape[1]))
        else:
            self._share = share_left(student, self.ids, weight)
            losses = -label_losses(student, inputs.labels) * float(self._share > self.left)
        return (losses * weight).sum(), {}, weight.sum()
