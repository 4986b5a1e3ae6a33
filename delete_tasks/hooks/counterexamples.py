"""Samples that the original takes for a class near the forgotten one: what a forget set alone does not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from ..loss_point import LossInputs
from ..losses.masks import class_mask
from ..targets import sees
from ..teacher import Frozen
from ..teacher_cache import take
from .adversarial import AdversarialHook, is_loss, within

STEP = 0.06  # of an attack, in standard deviations of the batch's channels; three change a photo by less than a sixth of one


class CounterexampleHook(AdversarialHook):
    """Base of methods that may change every second sample of a batch, as L2UL does (arXiv 2301.11578), but without labels.

    Where the original sees a forgotten class in such a sample, ``attack_steps`` signed gradient steps on the input raise the
    probability of one other class there: drawn for each sample in proportion to the square root of what the original gives
    the classes there, the forgotten ones left out. So near classes are drawn most, and each boundary of the forgotten class
    with another is shown from its other side. The teacher's opinion of the changed sample is the target.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_labels = False
    uses_retain_set = True
    watches = True
    instead = "leave unlearn.counterexamples out"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attack_steps = 0
        self._aim: tuple[Tensor, Tensor] | None = None  # booleans (n, *locations), class ids (n,)

    def _run_teacher(self, frozen: Frozen, module: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        if not self.attack_steps or not is_loss(args, kwargs):
            return super()._run_teacher(frozen, module, args, kwargs)
        inputs = self.inputs_of(kwargs)
        if len(inputs) < 2:
            raise RequestError(
                "unlearn.counterexamples changes every second sample of a batch, and this one has 1; use 2 or more"
            )
        places = range(1, len(inputs), 2)
        part = take(dict(kwargs), places, len(inputs))
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        size = STEP * inputs.std(axes, correction=0, keepdim=True)
        changed, self._aim = inputs[list(places)], None
        for _ in range(self.attack_steps):
            step = self.gradient(frozen, args, part, changed, self._other_class_loss).sign()
            changed = within(changed - size * step, inputs)
        self._aim = None
        inputs = inputs.clone()
        inputs[list(places)] = changed
        with torch.no_grad():
            self.outputs(frozen, args, kwargs, inputs)
        return args, {**kwargs, "inputs": inputs}

    def _other_class_loss(self, inputs: LossInputs) -> Tensor:
        logits = inputs.logits[0].float()
        if self._aim is None:
            self._aim = self._choose(logits.detach(), inputs.retain)
        seen, classes = self._aim
        chosen = classes.view(-1, *[1] * (logits.ndim - 1)).expand_as(logits[:, :1])
        return -(logits.log_softmax(1).gather(1, chosen).squeeze(1) * seen).sum()

    def _choose(self, logits: Tensor, retain: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where each sample shows a forgotten class, and the class that it is to show instead."""
        seen = sees(logits, self.ids)
        if retain is not None:
            seen = seen & ~retain
        gone = class_mask(self.ids, logits.shape[1], logits.ndim, logits.device)
        rest = logits.masked_fill(gone, -torch.inf).softmax(1) * seen.unsqueeze(1)
        chances = rest.flatten(2).sum(2).sqrt() if rest.ndim > 2 else rest.sqrt()
        kept = (~gone).flatten().float()
        chances = torch.where(chances.sum(1, keepdim=True) > 0, chances, kept)
        return seen, torch.multinomial(chances, 1).squeeze(1)
