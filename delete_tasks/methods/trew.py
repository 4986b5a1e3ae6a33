"""TREW: DELETE's target, tilted towards the classes most similar to the forgotten ones."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError
from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run
from .base import LossSums
from .delete import DELETE


def class_similarity(weight: Tensor) -> Tensor:
    """Compute the cosine of each pair of centred class weights: float32 ``(C, C)`` from a weight ``(C, D, ...)``."""
    weight = weight.detach().float().flatten(1)
    weight = F.normalize(weight - weight.mean(0), dim=1)
    return weight @ weight.T


@HOOKS.register_module()
class TREW(DELETE):
    """DELETE with a target tilted towards the classes most similar to the forgotten one (arXiv 2506.20893).

    ``unlearn = dict(type='TREW', classes=['car'])``. Ebrahimpour-Boroojeny et al., tilted reweighting: the forgotten classes'
    probability is zero, and class k's is the original's times ``exp(beta s_k)``, s_k its similarity to the forgotten class, as a
    network trained without the class assigns its samples to similar classes. Needs the forget set alone, no labels.

    The paper estimates similarities and fits the tilt to them; here the similarity is the cosine of the last layer's centred
    class weights, the forgotten class is the likeliest one for the original at a location, and ``beta`` is an option. The
    target is not sharpened unless ``teacher_temperature`` is set. Views, rate and steps are those of DELETE.

    Args:
        beta: Strength of the tilt; 0 is DELETE.
        options: See :class:`DELETE`.
    """

    def __init__(self, beta: float = 5.0, **options: Any) -> None:
        super().__init__(**options)
        if self.into is not None:
            raise RequestError("TREW tilts the target towards similar classes; leave into out, or use type='DELETE'")
        self.beta = number("unlearn.beta", beta, 0, 1e3)
        self._tilt: Tensor | None = None  # (forgotten classes, C)

    def prepare(self, runner: Run, model: nn.Module) -> None:
        if self.teacher_temperature is None:
            self.teacher_temperature = 1.0
        super().prepare(runner, model)
        similarity = class_similarity(runner.task.classifier(runner.teacher)[1].weight)  # type: ignore[arg-type]
        similarity[:, self.ids] = 0.0
        self._tilt = self.beta * similarity[self.ids]

    def resizes(self, logits: Tensor, inputs: LossInputs) -> bool:
        # The tilt of one class alone is the same at all locations.
        return len(self.ids) == 1 and inputs.retain is None and super().resizes(logits, inputs)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        tilt = self._tilt.to(teacher.device)[teacher[:, self.ids].argmax(1)].movedim(-1, 1)  # type: ignore[union-attr]
        if inputs.retain is not None:
            tilt = torch.where(inputs.retain.unsqueeze(1), torch.zeros_like(tilt), tilt)
        scale = self.teacher_temperature or 1.0  # by which DELETE divides: the tilt is of the sharpened target
        return super().location_loss(student, teacher + scale * tilt, inputs, weight)
