"""DELETE for detectors: each location is distilled to the original without the forgotten classes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor

from delete_tasks.errors import RequestError
from delete_tasks.losses.bernoulli import masked_bernoulli_kl
from delete_tasks.losses.functional import masked_kl_div
from delete_tasks.losses.masks import class_mask
from delete_tasks.methods.base import LossSums, UnlearnHook
from delete_tasks.model.loss_point import LossInputs
from delete_tasks.request.ranges import number
from delete_tasks.task import Run

LEAST = 0.02  # weight of a location where neither model sees anything; nearly all are such


@HOOKS.register_module()
class DetectorDELETE(UnlearnHook):
    """Distil a detector to the original without the forgotten classes (arXiv 2503.23751, at every anchor, proposal or query).

    Sigmoid scores of forgotten classes have the target 0, and an objectness o the target ``o (1 - p_forgotten)``. In a softmax,
    their probability goes to the background or, without one, evenly to the other classes: the next choice alone would take over
    the box. Boxes and the other scores stay as the original's. A location's weight is the highest score that the original or the
    model gives there. The same loss is taken once more with the original's last layers on the model's features, so that these no
    longer show the class to the layers that knew it.

    Args:
        into: Name or id of a class that takes the place of the forgotten ones instead of the background.
        original_head: Weight of the loss with the original's last layers.
        flat: Weight of the distance of the forgotten classes' logits, where the original sees one, to their mean where it sees
            nothing: scores near 0 would still rank, and average precision reads ranks.
        held: Weight of the distance of boxes from the original's, in the network's own units: four times the mean over a place's
            numbers.
        options: See :class:`UnlearnHook`.
    """

    rate = 1e-4

    def __init__(
        self,
        into: str | int | None = None,
        original_head: float = 1.0,
        flat: float = 0.1,
        held: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.request = replace(self.request, into=into)
        if (self.request.masking, self.request.locations) != ("all", "all"):
            raise RequestError("DetectorDELETE masks all classes at all locations; leave masking and locations out")
        self.into = into
        self.into_id: int | None = None
        self.original_head = number("unlearn.original_head", original_head, 0, 1e3)
        self.flat = number("unlearn.flat", flat, 0, 1e3)
        self.held = number("unlearn.held", held, 0, 1e3)
        self.model: Any = None

    def prepare(self, runner: Run, model: Any) -> None:
        super().prepare(runner, model)
        if runner.recipe.cache_teacher is True and model.parts.follow:
            raise RequestError("this model follows the original's proposals in each batch; leave cache_teacher out")
        self.model = model
        self.model.follow(runner.teacher)
        self.model.head_weight = self.original_head
        self.into_id = self.request.resolve_into(runner.selection.class_names)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        count, parts, ids = self.model.num_classes, self.model.parts, self.ids
        scores, now = self.model.scores(teacher), self.model.scores(student.detach())
        seen = torch.maximum(scores.amax(1), now.amax(1)).clamp(min=LEAST)
        mask = class_mask(ids, count, 3, student.device)
        target = self._moved(teacher[:, :count])
        divergence: Any = masked_kl_div if parts.softmax else masked_bernoulli_kl
        loss, terms = divergence(student[:, :count], target, mask, weight=seen, reduction="sum", return_terms=True)
        rest, before, total = student[:, count:], teacher[:, count:], seen.sum()
        forgotten, quiet = scores[:, ids].amax(1), (scores.amax(1, keepdim=True) < LEAST).float()
        found, given = (self._above_background(logits) for logits in (student, teacher))
        level = (given * quiet).sum((0, 2), keepdim=True) / quiet.sum().clamp(min=1)
        loss = loss + self.flat * total * _mean(F.relu(found - level).sum(1), forgotten)
        if parts.objectness:
            kept = 1.0 - (self.model.probabilities(teacher)[:, ids].amax(1) if self.into_id is None else 0.0)
            wanted = before[:, 0].sigmoid() * kept
            loss = loss + (F.binary_cross_entropy_with_logits(rest[:, 0], wanted, reduction="none") * seen).sum()
            rest, before = rest[:, 1:], before[:, 1:]
        others = scores.clone()
        others[:, ids] = 0.0
        place = others.amax(1)
        self._watch((forgotten * now[:, ids].amax(1)).sum(), (forgotten * forgotten).sum())
        logs = {"forgetting_term": terms[0], "retention_term": terms[1]}
        scale = 4 / max(1, rest.shape[1])  # to the four numbers of a box: masks and R-CNNs have more
        return loss + self.held * total * scale * _mean((rest - before).abs().sum(1), place), logs, total

    def _above_background(self, logits: Tensor) -> Tensor:
        """Return the forgotten classes' logits ``(N, n, L)``, in a softmax relative to the background's."""
        background = self.model.parts.background
        return logits[:, self.ids] - (0.0 if background is None else logits[:, background : background + 1])

    def _moved(self, logits: Tensor) -> Tensor:
        """Move the forgotten classes' probability to ``into`` or, in a softmax, to the background or, without one, evenly to all
        other classes: logits ``(N, C, L)``."""
        into = self.model.parts.background if self.into_id is None else self.into_id
        if into is None and self.model.parts.softmax:
            share = logits[:, self.ids].logsumexp(1, keepdim=True) - math.log(logits.shape[1] - len(self.ids))
            return torch.logaddexp(logits, share)
        if into is None:
            return logits
        both: Sequence[int] = [into, *self.ids]
        moved = logits.clone()
        moved[:, into] = logits[:, both].logsumexp(1) if self.model.parts.softmax else logits[:, both].amax(1)
        return moved


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
