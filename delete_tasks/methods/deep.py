"""Deep erasure: DELETE with losses on features, not only on the last layer's output."""

from functools import partial
from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError, UnsupportedModelError
from ..losses.features import conditional_mmd, feature_distillation
from ..losses.masks import class_mask, forgotten_mass
from ..model.features import Layer, find_stages
from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run, Task
from .accumulation import of_all_processes, share_of_process
from .delete import DELETE, TEACHER_FEATURES, nearest_weight

SHRINKAGE = 0.1  # of the covariance, estimated from the few samples of a step
PLACES = 2048  # places of a map compared in a step


@HOOKS.register_module()
class DeepDELETE(DELETE):
    """DELETE, with features of forgotten samples made like those of others.

    ``unlearn = dict(type='DeepDELETE', classes=['deer'], public='cifar100')``. DELETE's loss has a cheap minimum: the last
    layer's boundary moves, while the class stays separate in the features and a probe can read it. A second loss compares
    features of samples which the teacher assigns to a forgotten class with those of other samples with the same target: the
    input of the last layer and, for images, the stage before. The other samples are public data or a retain set, and
    without either those views of the forget set that show another class; of a map, up to 2,048 places, half of which show the
    class. docs/notes/deep.md has results and limits.

    Args:
        public: Unlabelled data, of which each batch holds as many samples as of the forget set, e.g. 'cifar100:FOLDER'. The
            forgotten classes are masked there as well, since public data may show them. None reads none.
        likeness: Weight of the second loss, :func:`delete_tasks.losses.conditional_mmd`; for images, whose steps compare dozens
            and not thousands, 20 by default, and 30 if there are only views.
        earlier: Weight of the same loss on the stage before, averaged over its places; for images 12 and 20 by default. Networks
            without two maps have no such stage; models with a map of logits take only 0.
        options: See :class:`DELETE`; ``feature_distillation``, 30 by default for images, is of all other samples, so that
            those of forgotten samples move.
    """

    def __init__(self, public: str | None = None, likeness: float = 0.5, earlier: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if public is not None and not (isinstance(public, str) and public):
            raise RequestError(f"unlearn.public must be a string that names data, or None, got {public!r}")
        self.public = public
        self.likeness = number("unlearn.likeness", likeness, 0, 1e6)
        self.earlier = number("unlearn.earlier", earlier, 0, 1e6)
        self._masks_all = False
        self._stage_searched = False
        self._earlier_features: Tensor | None = None

    def freeze(self, task: Task, model: nn.Module) -> None:
        recipe = task.recipes.methods.get(DeepDELETE.__name__, "it has not been tested on this task")
        if isinstance(recipe, str):
            reason = f"does not take models of '{task.name}': {recipe}"
            raise UnsupportedModelError(f"{type(self).__name__} {reason}; use type='DELETE'")
        super().freeze(task, model)

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        self._masks_all = runner.selection.public_data is not None
        self._stage_searched = self.earlier == 0

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        if not self._stage_searched:
            self._stage_searched = True
            self._watch_stage(runner, data_batch)
        super().before_train_iter(runner, batch_idx, data_batch)

    def _watch_stage(self, runner: Run, data_batch: Any) -> None:
        model, task = runner.unwrapped_model, runner.task
        inputs = model.data_preprocessor(data_batch, True)["inputs"][:1]
        stages = find_stages(model, inputs, task.classifier(model)[1], task.class_logits)
        if len(stages) < 2:
            runner.logger.info(f"{type(model).__name__} has no stage before the last: unlearn.earlier has no effect.")
            return
        module = model.get_submodule(stages[-2].name)
        self._restore.append(module.register_forward_hook(partial(self._keep_stage, stages[-2])).remove)

    def _keep_stage(self, stage: Layer, _: nn.Module, __: Any, output: Tensor) -> None:
        self._earlier_features = stage.as_map(output).flatten(2).mean(2)

    @property
    def reads_features(self) -> bool:
        return True

    def retained(self, inputs: LossInputs) -> Tensor | None:
        return None if self._masks_all else inputs.retain  # public data are no retain set: they may show the class

    def feature_losses(
        self, features: Tensor, teacher: Tensor, inputs: LossInputs, weight: Tensor | None
    ) -> dict[str, Tensor]:
        losses = self.readout_losses(features, teacher, inputs, weight)
        original = self._caught[TEACHER_FEATURES].popleft() if self.feature_distillation else None
        size = features.shape[2:]
        if size and self.earlier:
            raise RequestError("unlearn.earlier is for models with one place a sample; use unlearn.earlier=0")
        if features.ndim != teacher.ndim:
            raise RequestError(
                f"{type(self).__name__} compares the last layer's input place by place, and here that is "
                f"{tuple(features.shape)} for logits of {tuple(teacher.shape)}; use type='DELETE'"
            )
        logits = inputs.nearest(teacher.float(), size) if size else teacher.float()
        forgotten = forgotten_mass(logits, self.ids)
        mask = class_mask(self.ids, logits.shape[1], logits.ndim, logits.device)
        target = logits.masked_fill(mask, -torch.inf).softmax(1)
        # `retain` is True for a retain set and for public data; without either it may be False for all samples.
        added = inputs.retain if inputs.retain is not None and bool(inputs.retain.any()) else None
        if added is not None and not self._masks_all:
            forgotten = forgotten * ~added
        other = 1 - forgotten
        if added is not None and not size:
            # Only added samples stand for the others: a forget image has no features that should be retained.
            other = other * added
        if size:
            weight = nearest_weight(weight, size)
            forgotten, other = (mass if weight is None else mass * (weight > 0) for mass in (forgotten, other))
            places = draw_places(forgotten.flatten(), PLACES)
            features, target = (_samples(maps)[places] for maps in (features, target))
            original = None if original is None else _samples(original)[places]
            forgotten, other = (mass.flatten()[places] for mass in (forgotten, other))
        losses["loss_unlike"] = self.likeness * self._unlike(features, target, forgotten, other)
        if self._earlier_features is not None:
            unlike = self._unlike(self._earlier_features, target, forgotten, other)
            losses["loss_unlike_earlier"] = self.earlier * unlike
            self._earlier_features = None
        if original is not None:
            gathered = (of_all_processes(tensor) for tensor in (features, original, other))
            losses["loss_moved"] = self.feature_distillation * share_of_process(feature_distillation(*gathered))
        return losses

    def _unlike(self, *tensors: Tensor) -> Tensor:
        """Compare features as they are, as neighbours and prototypes do, and whitened, as a linear probe does."""
        gathered = [of_all_processes(tensor) for tensor in tensors]
        return share_of_process(conditional_mmd(*gathered) + conditional_mmd(*gathered, whiten=SHRINKAGE))


def _samples(maps: Tensor) -> Tensor:
    """Flatten ``(N, d, *locations)`` to ``(n, d)``."""
    return maps.movedim(1, -1).flatten(0, -2)


def draw_places(mass: Tensor, most: int) -> Tensor:
    """Draw indices of ``most`` places, or of all if there are fewer, given the forgotten classes' ``mass`` ``(n,)``. Half of them
    show a forgotten class, if both sides have that many, so that a small object has more than a few places."""
    order = torch.randperm(len(mass), device=mass.device)
    shows = mass[order] > 0.5
    showing, others = order[shows], order[~shows]
    count = min(len(showing), max(most // 2, most - len(others)))
    return torch.cat([showing[:count], others[: most - count]])
