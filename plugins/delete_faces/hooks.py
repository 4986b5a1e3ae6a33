"""Hook of a run that forgets people: the projection before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from delete_images.opened import predict_images
from delete_tasks.errors import RequestError
from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.request.ranges import whole

from .network import FaceNetwork
from .projection import LEFT, fold_each, project_out
from .retain import NO_PROJECTION, changes_of, refuse_few, refuse_removed

if TYPE_CHECKING:
    from delete_tasks.runner.unlearn_runner import UnlearnRunner


@HOOKS.register_module()
class PersonProjection(Hook):
    """Directions of the forgotten people, projected out of the embedding before the first step.

    They are those of the photos that are unlearned; with photos of kept people, directions in which any person's photos differ
    are made shorter as well. A run that has nothing left to do by its stop rule takes no step. A run that is resumed has the
    projection in its weights.

    Args:
        directions: Number of directions of each person, see :mod:`delete_faces.projection`; 0 projects nothing.

    Raises:
        RequestError: A number out of range.
    """

    priority = "BELOW_NORMAL"  # after the method's hook has compared the model with its teacher

    def __init__(self, directions: int) -> None:
        self.directions = whole("directions", directions, 0, 65_536)
        self.begins_with = {"directions": self.directions}  # a resumed run must have begun with the same

    def before_train(self, runner: UnlearnRunner) -> None:
        if runner.iter > 0:
            return
        share, method = self._project(runner), runner.method
        if share is not None and method.stop_ratio is not None and share <= method.stop_ratio:
            method.stopped = runner.train_loop.stop_training = True

    def _project(self, runner: UnlearnRunner) -> float | None:
        """Change the embedding; return the share of the teacher's probability of the people that is left, as the stop rule
        measures it, or None if nothing was done."""
        chosen = runner.selection
        network: FaceNetwork = runner.unwrapped_model.network  # type: ignore[assignment]
        ids, faces, kept = chosen.forget_ids, chosen.dataset, getattr(chosen.dataset, "kept", None)
        if kept is not None:  # `faces remove` has refused them before; a config's are opened as they are
            refuse_removed(kept, [chosen.class_names[i] for i in ids], "the retain set")
            refuse_few(kept, network.head.weight.shape[1])
        if not self.directions:
            if kept is not None:
                raise RequestError(NO_PROJECTION)
            return None
        photos = faces.data.subset(chosen.indices)
        before = predict_images(network, faces.spec, photos, "Projecting")
        changes = changes_of(network, faces.spec, photos, before, ids, self.directions, kept)
        fold_each(network.embedder, changes, (3, *faces.spec.preprocessing.size))
        after = predict_images(network, faces.spec, photos, "Projected")
        teacher, left = (forgotten_mass(predictions.logits, ids) for predictions in (before, after))
        # What a head says of an embedding that nothing is left of is chance: a person with a single photo.
        features: Any = before.features  # changes_of refuses an embedder without
        left = left * (project_out(features, *changes[0]).norm(dim=1) > LEFT * features.norm(dim=1))
        return float((teacher * left).sum() / (teacher * teacher).sum().clamp_min(1e-30))
