"""Face identification as a task: the location is a photo, the class a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS

from delete_images.classifier import ImageClassifier
from delete_images.model_file import save_model
from delete_images.opened import predict_images
from delete_images.spec import spec_from_json
from delete_images.task import ImagesTask
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Metric
from delete_tasks.head import ClassLayer
from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.modes import fast_layout
from delete_tasks.projection import project_out
from delete_tasks.ranges import whole

from . import opened
from .heads import CosineHead
from .kept import NO_PROJECTION, changes_of, refuse_few, refuse_removed
from .metrics import METRICS
from .network import check_face_network, remove_people
from .projection import LEFT, embedding_layers, fold_each
from .recipes import RECIPES

TRAINED = ("embedding", "embedder", "all")


@MODELS.register_module()
class FaceClassifier(ImageClassifier):
    """A :class:`delete_faces.network.FaceNetwork` under mmengine's interface.

    Args:
        trained: What an unlearning run may change. 'embedding': the layer that makes the embedding, and norms after it;
            'embedder': all but the head; 'all': the head, too. A head that gives way forgets in the embedding's place, and
            embeddings are what a face system compares.
        directions: How many directions of each forgotten person are projected out of the embedding before the first step, see
            :mod:`delete_faces.projection`; 0 projects nothing.
        keep_row: Publish the head with the rows of the forgotten people still in it.
        options: As :class:`delete_images.classifier.ImageClassifier`.
    """

    task = "faces"

    def __init__(
        self, *args: Any, trained: str = "embedding", directions: int = 0, keep_row: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        if trained not in TRAINED:
            raise RequestError(f"trained is '{trained}'; expected one of {', '.join(TRAINED)}")
        network = check_face_network(fast_layout(self.network), "the model")
        self.directions, self.keep_row = whole("directions", directions, 0, 65_536), keep_row
        if isinstance(network.head, CosineHead):
            network.head.hold_length = True
        if trained != "all":
            network.head.requires_grad_(False)
        if trained == "embedding":
            network.embedder.requires_grad_(False)
            for module in embedding_layers(network.embedder):
                module.requires_grad_(True)


class FacesTask(ImagesTask):
    """The task of :class:`FaceClassifier` models."""

    name = "faces"
    recipes = RECIPES
    metrics: Sequence[Metric] = METRICS
    forgets = "person"
    classes_are_people = True
    audit_advice = "delete-tasks audit takes everyone's photos (--data, --test)"

    def check(self, model: Any) -> None:
        super().check(model)
        check_face_network(model.network, "the model")

    def training_flags(self, model: Any) -> list[Any]:
        return []  # one output in either mode

    def classifier(self, model: Any) -> tuple[str, Any]:
        return "head", model.network.head

    def class_layers(self, model: Any) -> list[ClassLayer]:
        return []  # save_erased takes the people's rows out altogether

    def begin(self, runner: Any) -> float | None:
        """Project the directions of the people's photos, those that are unlearned, out of the embedding; and with photos of
        kept people make directions shorter in which any person's photos differ."""
        model, ids, forget = runner.unwrapped_model, runner.forget_ids, runner.train_dataloader.dataset
        kept = getattr(forget.dataset, "kept", None)
        if kept is not None:  # `faces remove` has refused them before; a config's are opened as they are
            refuse_removed(kept, [runner.class_names[i] for i in ids], "the retain set")
            refuse_few(kept, model.network.head.weight.shape[1])
        if not model.directions:
            if kept is not None:
                raise RequestError(NO_PROJECTION)
            return None
        network, faces, photos = model.network, forget.dataset, forget.dataset.data.subset(forget.indices)
        before = predict_images(network, faces.spec, photos, "Projecting")
        changes = changes_of(network, faces.spec, photos, before, ids, model.directions, kept)
        fold_each(network.embedder, changes, (3, *faces.spec.preprocessing.size))
        after = predict_images(network, faces.spec, photos, "Projected")
        was, left = (forgotten_mass(predictions.logits, ids) for predictions in (before, after))
        # What a head says of an embedding that nothing is left of is chance: a person with a single photo.
        features: Any = before.features  # changes_of refuses an embedder without
        left = left * (project_out(features, *changes[0]).norm(dim=1) > LEFT * features.norm(dim=1))
        return float((was * left).sum() / (was * was).sum().clamp_min(1e-30))

    def retain_samples(self, dataset: Any) -> list[str] | None:
        kept = getattr(dataset, "kept", None)
        return super().retain_samples(dataset) if kept is None else list(kept.names)

    def begins_with(self, model: Any) -> dict[str, int]:
        return {"directions": model.directions}

    def finish(self, runner: Any) -> dict[str, Any]:
        return {"rows_replaced": [], "directions": runner.unwrapped_model.directions}

    def published_meta(self, names: Sequence[str], ids: Sequence[int], dataset: Any) -> dict[str, Any]:
        return {**super().published_meta(names, ids, dataset), "forgotten": list(ids)}

    def save_erased(self, model: Any, meta: dict[str, Any], path: str) -> str:
        """A model folder at ``path``, without the rows and names of the forgotten people unless the model keeps rows."""
        spec = spec_from_json(meta["spec"], "the model's description")
        network = model.network
        if not model.keep_row:
            network, spec = remove_people(network, spec, meta["forgotten"])
        return str(save_model(path, network, spec))

    open = staticmethod(opened.open_faces)
