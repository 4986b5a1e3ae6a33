"""Deep erasure: DELETE that makes the features forget, too, not the last layer's boundary alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from mmengine.dist import all_gather, get_dist_info
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError, UnsupportedModelError
from ..loss_point import LossInputs
from ..losses.conditional_mmd import conditional_mmd
from ..masking import class_mask
from ..ranges import number
from ..task import Task
from .defaults import Recipes, rate_for
from .delete import DELETE
from .unlearn import forgotten_mass


def _for_images(*, parameters: int, beside: bool, **_: Any) -> dict[str, Any]:
    # A first look at training images set apart, see docs/notes/deep.md, which says what was not measured: more steps than 80, and
    # how the rate goes by the network's size. With the forget set alone nothing else holds the other classes: a third of it, and
    # less for larger networks.
    rate = 3e-3 if beside else rate_for(1e-3, parameters)
    return {"steps": 300, "batch_size": 64, "lr": rate, "norm_eval": False}


@HOOKS.register_module()
class DeepDELETE(DELETE):
    """Experimental: DELETE, with features of forgotten samples made like those of others.

    ``unlearn = dict(type='DeepDELETE', classes=['deer'], public='cifar100')``. DELETE's loss has a cheap minimum: the last
    layer's boundary moves, and the class keeps a place of its own in the features, where a probe reads it. A second loss on what
    goes into the last layer compares samples in which the teacher sees a forgotten class with others, each among those with the
    same target. The others are public data, a retain set if there is one, and without either those views of the forget set that
    show something else. docs/notes/deep.md says what that reaches, and what it does not.

    Args:
        public: Data that join the forget set without labels, as many as that in each batch, e.g. 'cifar100:FOLDER'. The forgotten
            classes are masked there, too: where the original sees one in them, it is not to be taught. None reads none.
        likeness: Weight of the second loss, :func:`delete_tasks.losses.conditional_mmd`.
        options: See :class:`DELETE`.
    """

    recipes: ClassVar[Recipes] = {"images": _for_images}

    def __init__(self, public: str | None = None, likeness: float = 10.0, **options: Any) -> None:
        super().__init__(**options)
        if public is not None and not (isinstance(public, str) and public):
            raise RequestError(f"unlearn.public must be a string that names data, or None, got {public!r}")
        self.public = public
        self.likeness = number("unlearn.likeness", likeness, 0, 1e6)
        self._masks_all = False
        self._last: Tensor | None = None

    def freeze(self, task: Task, model: nn.Module) -> None:
        if not task.deep:
            raise UnsupportedModelError(
                f"{type(self).__name__} does not take models of '{task.name}' yet; use type='DELETE'"
            )
        super().freeze(task, model)

    def prepare(self, runner: Any, model: nn.Module) -> None:
        super().prepare(runner, model)
        self._masks_all = runner.public_info is not None
        layer = runner.task.classifier(model)[1]
        self._restore.append(layer.register_forward_pre_hook(self._keep_last).remove)

    def _keep_last(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._last = args[0]

    def location_loss(
        self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        # Public data are no retain set: nobody says that they do not show the class.
        inputs = replace(inputs, retain=None) if self._masks_all else inputs
        return super().location_loss(student, teacher, inputs, weight)

    def extra_losses(self, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> dict[str, Tensor]:
        losses = super().extra_losses(teacher, inputs, weight)
        features, self._last = self._last, None
        if features is None or features.ndim != 2:
            return losses
        rest = teacher.float().masked_fill(class_mask(self.ids, teacher.shape[1], 2, teacher.device), -torch.inf)
        seen = forgotten_mass(teacher, self.ids)
        other = 1 - seen
        if inputs.retain is not None:
            # Samples that were brought along are what the others look like, a view of a forget image is not: what the
            # original sees in it besides is part of what is to go.
            other = other * inputs.retain if self._masks_all else inputs.retain.float()
            seen = seen if self._masks_all else seen * ~inputs.retain
        rows = [_of_all_processes(part) for part in (features, rest.softmax(1), seen, other)]
        unlike = conditional_mmd(*rows)
        # Of what all processes show together; DistributedDataParallel takes the mean of each one's share in the gradient.
        processes = get_dist_info()[1]
        return {**losses, "loss_unlike": self.likeness * (unlike.detach() + processes * (unlike - unlike.detach()))}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not any(name.endswith("loss_unlike") for name in outputs or ()):
            name = runner.task.classifier(runner.unwrapped_model)[0]
            raise RequestError(
                f"{type(self).__name__} compares the rows (N, d) that go into '{name}', and this model gives it none; use "
                "type='DELETE'"
            )


def _of_all_processes(own: Tensor) -> Tensor:
    """The rows of all processes, of which this one's keep their gradient."""
    rank, processes = get_dist_info()
    if processes == 1:
        return own
    parts = all_gather(own.detach())
    return torch.cat([*parts[:rank], own, *parts[rank + 1 :]])
