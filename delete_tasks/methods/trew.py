"""TREW: the teacher without the forgotten classes, tilted towards the classes most like them."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run
from .delete import DELETE


def class_similarity(weight: Tensor) -> Tensor:
    """Cosine of each pair of a last layer's rows, less their mean: float32 ``(C, C)`` of a weight ``(C, D, ...)``."""
    rows = weight.detach().float().flatten(1)
    rows = F.normalize(rows - rows.mean(0), dim=1)
    return rows @ rows.T


@HOOKS.register_module()
class TREW(DELETE):
    """DELETE whose target is tilted towards the classes most like the forgotten one (arXiv 2506.20893).

    ``unlearn = dict(type='TREW', classes=['car'])``. Ebrahimpour-Boroojeny et al., tilted reweighting: the forgotten classes'
    probability is zero, and class k's is the original's times ``exp(beta s_k)``, s_k its similarity to the forgotten class, as a
    network that never saw the class would send it to its neighbours. Needs the forget set alone, no labels.

    The paper estimates similarities and fits the tilt to them; here the similarity is the cosine of the last layer's centred
    rows, the forgotten class is the one that the original finds likeliest there, and ``beta`` is given. The target is not
    sharpened unless ``teacher_temperature`` says so. All else (views, rate, steps) is DELETE's, so that the target alone differs.

    Args:
        beta: Of the tilt; 0 is DELETE.
        options: See :class:`DELETE`.
    """

    def __init__(self, beta: float = 5.0, **options: Any) -> None:
        super().__init__(**options)
        self.beta = number("unlearn.beta", beta, 0, 1e3)
        self._tilt: Tensor | None = None  # (forgotten classes, C)

    def prepare(self, runner: Run, model: nn.Module) -> None:
        if self.teacher_temperature is None:
            self.teacher_temperature = 1.0
        super().prepare(runner, model)
        found = class_similarity(runner.task.classifier(runner.teacher)[1].weight)  # type: ignore[arg-type]
        found[:, self.ids] = 0.0
        self._tilt = self.beta * found[self.ids]

    def resizes(self, logits: Tensor, inputs: LossInputs) -> bool:
        # The tilt of one class alone is the same at all locations.
        return len(self.ids) == 1 and inputs.retain is None and super().resizes(logits, inputs)

    def location_loss(
        self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        tilt = self._tilt.to(teacher.device)[teacher[:, self.ids].argmax(1)].movedim(-1, 1)  # type: ignore[union-attr]
        if inputs.retain is not None:
            tilt = torch.where(inputs.retain.unsqueeze(1), torch.zeros_like(tilt), tilt)
        scale = self.teacher_temperature or 1.0  # by which DELETE divides: the tilt is of the sharpened target
        return super().location_loss(student, teacher + scale * tilt, inputs, weight)
