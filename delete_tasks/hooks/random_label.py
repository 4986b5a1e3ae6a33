"""Random label: what is to be forgotten is taught as something else, chosen by chance."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor

from ..errors import RequestError
from ..loss_point import LossInputs
from ..losses.masks import is_forgotten
from .defaults import Recipes
from .unlearn import UnlearnHook


def forgotten_weight(name: str, inputs: LossInputs, ids: list[int], weight: Tensor | None) -> Tensor:
    """Weights ``(N, *locations)``, float32: those given where the label is one of ``ids``, 0 elsewhere (void included).

    Raises:
        RequestError: There are no labels.
    """
    if inputs.labels is None:
        raise RequestError(f"{name} needs the label of each location, and the data have none; use type='DELETE'")
    shown = is_forgotten(inputs.labels, ids)
    if inputs.retain is not None:
        shown = shown & ~inputs.retain
    return shown.float() if weight is None else shown * weight


@HOOKS.register_module()
class RandomLabel(UnlearnHook):
    """Cross entropy to a random kept class where the label is forgotten.

    The rest of the locations carry no weight. ``unlearn = dict(type='RandomLabel', classes=['car'])``. The class is drawn
    anew in each step, from the run's seed. The baseline "random label" of Golatkar et al., "Eternal Sunshine of the
    Spotless Net" (CVPR 2020), with the draw restricted to classes that are kept. It reads labels and has no teacher, so
    nothing tells it what the original says of other classes.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_labels = True
    rate = 5e-5
    uses_retain_set = False
    recipes: ClassVar[Recipes] = {"faces": {"lr": 1e-4, "steps": 60}}

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        weight = forgotten_weight("RandomLabel", inputs, self.ids, weight)
        kept = torch.tensor([i for i in range(student.shape[1]) if i not in self.ids], device=student.device)
        target = kept[torch.randint(len(kept), weight.shape, device=student.device)]
        losses = F.cross_entropy(student.float(), target, reduction="none")
        return (losses * weight).sum(), {}, weight.sum()
