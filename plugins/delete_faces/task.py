"""Face identification as a task: the location is a photo, the class a person."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from mmengine.registry import MODELS
from msgspec.structs import replace
from torch import Tensor

from delete_images.models.classifier import ImageClassifier
from delete_images.models.hub_folder import describe
from delete_images.models.model_file import ModelSpec, save_model
from delete_images.task import ImagesTask, erased_spec
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Metric
from delete_tasks.model.head import ClassLayer
from delete_tasks.model.modes import fast_layout
from delete_tasks.task import Run

from . import opened
from .enrolment import GALLERY, with_removed
from .enrolment import NAME as ENROLMENT
from .gallery.gallery import read_gallery
from .metrics import METRICS
from .network import CosineHead, FaceNetwork, check_face_network, remove_people, without_classes
from .onnx_embedder import OnnxEmbedder
from .projection import embedding_layers, projected_directions
from .recipes import RECIPES

TRAINED = ("embedding", "embedder", "all")


@MODELS.register_module()
class FaceClassifier(ImageClassifier):
    """A :class:`delete_faces.network.FaceNetwork` under mmengine's interface.

    Args:
        trained: Part that unlearning changes. 'embedding': the layer that makes the embedding, and norms after it; 'embedder':
            all but the head; 'all': everything. A head that is trained forgets in place of the embeddings, which are what a face
            system compares.
        keep_row: Publish the head with the class weights of the forgotten people.
        options: As :class:`delete_images.models.classifier.ImageClassifier`.
    """

    task = "faces"

    def __init__(self, *args: Any, trained: str = "embedding", keep_row: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        if trained not in TRAINED:
            raise RequestError(f"trained is '{trained}'; expected one of {', '.join(TRAINED)}")
        network = check_face_network(fast_layout(self.network), "the model")
        self.keep_row = keep_row
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
    forgets, samples = "person", "photos"
    classes_are_people = True
    exports = "embedding"

    def class_layers(self, model: Any) -> list[ClassLayer]:
        return []  # save_erased removes the people's class weights altogether

    def finish(self, runner: Run) -> dict[str, Any]:
        return {"rows_replaced": [], "directions": projected_directions(runner)}

    def published(self, model: Any, ids: Sequence[int] = ()) -> Any:
        network = model.network
        if not ids or model.keep_row:
            return network
        return FaceNetwork(network.embedder, without_classes(network.head, ids))

    def content(self, path: Path, names: Sequence[str]) -> str | None:
        if path.name == GALLERY:
            try:
                count: Any = sum(name in names for name in read_gallery(path).names)
            except RequestError:
                count = "possibly"
            held = "templates of the forgotten people, in the original's gallery (biometric data)"
            return f"{count} {held}" if count else None
        what = super().content(path, names)
        return f"{what}: their photos, and the folder of all" if what and path.name == ENROLMENT else what

    def save_erased(self, model: Any, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        """Write a model folder at ``path``, without class weights and names of the forgotten people unless it keeps them."""
        network, spec = model.network, cast(ModelSpec, erased_spec(names, ids, dataset))
        if not model.keep_row:
            network, spec = remove_people(network, spec, ids)
        spec = replace(spec, extra=with_removed(spec.extra, [names[i] for i in ids], network))
        return str(save_model(path, network, spec))

    def exported(self, model: Any, inputs: Tensor) -> Tensor:
        network = model.network
        return network.embedder(inputs) if isinstance(network.embedder, OnnxEmbedder) else network.embed(inputs)

    def exported_file(self, model: Any) -> Any:
        embedder = model.network.embedder
        return embedder.whole() if isinstance(embedder, OnnxEmbedder) else None

    open = staticmethod(opened.open_faces)
    hub = staticmethod(partial(describe, pipeline="image-feature-extraction"))
