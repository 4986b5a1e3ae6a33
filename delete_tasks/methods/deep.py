"""Deep erasure: DELETE that makes the features forget, too, not the last layer's boundary alone."""

from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_gather, get_dist_info
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError, UnsupportedModelError
from ..losses.conditional_mmd import conditional_mmd
from ..losses.feature_distillation import feature_distillation
from ..losses.masks import class_mask, forgotten_mass
from ..model.features import Layer, find_stages
from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run, Task
from .delete import DELETE, nearest_weight, share_of_process

SHRINKAGE = 0.1  # of the covariance, which a step's few samples tell badly
PLACES = 2048  # of a map, compared with one another in a step
TEACHER_FEATURES = "features"  # caught beside the teacher's outputs, and cached with them


@HOOKS.register_module()
class DeepDELETE(DELETE):
    """Experimental: DELETE, with features of forgotten samples made like those of others.

    ``unlearn = dict(type='DeepDELETE', classes=['deer'], public='cifar100')``. DELETE's loss has a cheap minimum: the last
    layer's boundary moves, and the class keeps a place of its own in the features, where a probe reads it. A second loss compares
    features of samples in which the teacher sees a forgotten class with those of others, each among those with the same target:
    what goes into the last layer, and, of images, the stage before. The others are public data, a retain set if there is one, and
    without either those views of the forget set that show something else; of a map, up to 2,048 places, half of which show the
    class. docs/notes/deep.md says what that reaches, and what it does not.

    Args:
        public: Data that join the forget set without labels, as many as that in each batch, e.g. 'cifar100:FOLDER'. The forgotten
            classes are masked there, too: where the original sees one in them, it is not to be taught. None reads none.
        likeness: Weight of the second loss, :func:`delete_tasks.losses.conditional_mmd`; for images, whose steps compare dozens
            and not thousands, 20 by default, and 15 where there are views alone.
        earlier: Weight of the same loss on the stage before, averaged over its places; for images 12 and 10 by default. Networks
            without two maps have no such stage, and models with a map of logits take 0 alone.
        feature_distillation: Weight of a third loss, :func:`delete_tasks.losses.feature_distillation`: the others' features
            stay where the original has them, and those of forgotten samples come to them. 30 by default for images with
            public data or a retain set.
        options: See :class:`DELETE`.
    """

    def __init__(
        self,
        public: str | None = None,
        likeness: float = 0.5,
        earlier: float = 0.0,
        feature_distillation: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if public is not None and not (isinstance(public, str) and public):
            raise RequestError(f"unlearn.public must be a string that names data, or None, got {public!r}")
        self.public = public
        self.likeness = number("unlearn.likeness", likeness, 0, 1e6)
        self.earlier = number("unlearn.earlier", earlier, 0, 1e6)
        self.feature_distillation = number("unlearn.feature_distillation", feature_distillation, 0, 1e6)
        self._masks_all = False
        self._stage_sought = False
        self._earlier_features: Tensor | None = None

    def freeze(self, task: Task, model: nn.Module) -> None:
        recipe = task.recipes.methods.get(DeepDELETE.__name__, "that was not tried")
        if isinstance(recipe, str):
            raise UnsupportedModelError(
                f"{type(self).__name__} does not take models of '{task.name}': {recipe}; use type='DELETE'"
            )
        super().freeze(task, model)

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        self._masks_all = runner.selection.public_data is not None
        self._stage_sought = self.earlier == 0
        if self.feature_distillation:
            layer = runner.task.classifier(runner.teacher)[1]
            self._restore.append(layer.register_forward_pre_hook(self._keep_teacher_features).remove)

    def _keep_teacher_features(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._caught.setdefault(TEACHER_FEATURES, deque()).append(args[0])

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        if not self._stage_sought:
            self._stage_sought = True
            self._watch_stage(runner, data_batch)
        super().before_train_iter(runner, batch_idx, data_batch)

    def _watch_stage(self, runner: Run, data_batch: Any) -> None:
        model, task = runner.unwrapped_model, runner.task
        inputs = model.data_preprocessor(data_batch, True)["inputs"][:1]
        stages = find_stages(model, inputs, task.classifier(model)[1], task.class_logits)
        if len(stages) < 2:
            runner.logger.info(
                f"{type(model).__name__} has no stage before the last, so unlearn.earlier weighs nothing."
            )
            return
        module = model.get_submodule(stages[-2].name)
        self._restore.append(module.register_forward_hook(partial(self._keep_stage, stages[-2])).remove)

    def _keep_stage(self, stage: Layer, _: nn.Module, __: Any, output: Tensor) -> None:
        self._earlier_features = stage.as_map(output).flatten(2).mean(2)

    @property
    def reads_features(self) -> bool:
        return True

    def location_loss(
        self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        # Public data are no retain set: nobody says that they do not show the class.
        inputs = replace(inputs, retain=None) if self._masks_all else inputs
        return super().location_loss(student, teacher, inputs, weight)

    def feature_losses(
        self, features: Tensor, teacher: Tensor, inputs: LossInputs, weight: Tensor | None
    ) -> dict[str, Tensor]:
        losses = super().feature_losses(features, teacher, inputs, weight)
        was = self._caught[TEACHER_FEATURES].popleft() if self.feature_distillation else None
        size = features.shape[2:]
        if size and self.earlier:
            raise RequestError("unlearn.earlier is for models with one place a sample; use unlearn.earlier=0")
        if features.ndim != teacher.ndim:
            raise RequestError(
                f"{type(self).__name__} compares what goes into the last layer place by place, and here that is "
                f"{tuple(features.shape)} for logits of {tuple(teacher.shape)}; use type='DELETE'"
            )
        logits = inputs.nearest(teacher.float(), size) if size else teacher.float()
        seen = forgotten_mass(logits, self.ids)
        rest = logits.masked_fill(
            class_mask(self.ids, logits.shape[1], logits.ndim, logits.device), -torch.inf
        ).softmax(1)
        # Where nothing was brought along a batch says so of each of its samples, and its views are all there is.
        brought = inputs.retain if inputs.retain is not None and bool(inputs.retain.any()) else None
        if brought is not None and not self._masks_all:
            seen = seen * ~brought
        other = 1 - seen
        if brought is not None and not size:
            # Samples that were brought along are what the others look like, a view of a forget image is not: what the
            # original sees in it besides is part of what is to go.
            other = other * brought
        if size:
            weight = nearest_weight(weight, size)
            seen, other = (part if weight is None else part * (weight > 0) for part in (seen, other))
            places = draw_places(seen.flatten(), PLACES)
            features, rest = (part.movedim(1, -1).flatten(0, -2)[places] for part in (features, rest))
            was = None if was is None else was.movedim(1, -1).flatten(0, -2)[places]
            seen, other = (part.flatten()[places] for part in (seen, other))
        losses["loss_unlike"] = self.likeness * self._unlike(features, rest, seen, other)
        if self._earlier_features is not None:
            losses["loss_unlike_earlier"] = self.earlier * self._unlike(self._earlier_features, rest, seen, other)
            self._earlier_features = None
        if was is not None:
            known = (_of_all_processes(part) for part in (features, was, other))
            losses["loss_moved"] = self.feature_distillation * share_of_process(feature_distillation(*known))
        return losses

    def _unlike(self, *parts: Tensor) -> Tensor:
        """Compare features as they are, as neighbours and prototypes read them, and whitened, as a linear probe weighs them."""
        known = [_of_all_processes(part) for part in parts]
        return share_of_process(conditional_mmd(*known) + conditional_mmd(*known, whiten=SHRINKAGE))


def draw_places(seen: Tensor, most: int) -> Tensor:
    """Draw indices of ``most`` places, or of all if there are fewer: half of them show a forgotten class, if both sides have
    that many, so that a small object is more than a few places.

    Args:
        seen: ``(n,)``, probability of the forgotten classes.
    """
    order = torch.randperm(len(seen), device=seen.device)
    shows = seen[order] > 0.5
    showing, others = order[shows], order[~shows]
    count = min(len(showing), max(most // 2, most - len(others)))
    return torch.cat([showing[:count], others[: most - count]])


def _of_all_processes(own: Tensor) -> Tensor:
    """Gather the rows of all processes; this process's keep their gradient."""
    rank, processes = get_dist_info()
    if processes == 1:
        return own
    parts = all_gather(own.detach())
    return torch.cat([*parts[:rank], own, *parts[rank + 1 :]])
