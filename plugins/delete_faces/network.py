"""Face-identification models: an embedder with an identity head, its description, and building it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from delete_images.models.architectures import register
from delete_images.models.architectures.registry import is_import_path
from delete_images.models.model_file import load_model
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError

from .backbones import build_backbone
from .heads import Head, build_head, without_classes

ARCHITECTURE = "face_network"
IMPORTED = "delete_faces.network:imported_face_network"


class FaceNetwork(nn.Module):
    """Faces ``(N, 3, H, W)`` to identity logits ``(N, C)``."""

    task = "faces"  # of model folders

    def __init__(self, embedder: nn.Module, head: Head) -> None:
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, faces: Tensor) -> Tensor:
        return self.head(self.embedder(faces))

    def embed(self, faces: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` of length 1, whose inner product is what a face system compares."""
        return F.normalize(self.embedder(faces).float())


@register(ARCHITECTURE)
def face_network(
    num_classes: int,
    backbone: str = "mobilefacenet",
    embedding_size: int = 128,
    head: str = "cosine",
    scale: float | None = None,
    backbone_arguments: Mapping[str, Any] | None = None,
) -> FaceNetwork:
    """Build an embedder of faces with an identity head. The arguments are those of a model.json. Backbones are those of
    :func:`delete_faces.backbones.build_backbone` but for import paths; ``scale`` is a cosine head's. An unknown backbone or head,
    or arguments that they do not take, are refused."""
    embedder = build_backbone(backbone, embedding_size, backbone_arguments)
    return FaceNetwork(embedder, build_head(head, embedding_size, num_classes, scale))


def imported_face_network(num_classes: int, backbone: str, **arguments: Any) -> FaceNetwork:
    """Build as :func:`face_network`, for a backbone given by import path. A model.json names this function by import path as
    well, so that loading such a model asks for ``--allow-import`` before any of the backbone's code runs."""
    embedding_size = arguments.pop("embedding_size")
    embedder = build_backbone(backbone, None, arguments.pop("backbone_arguments", None), allow_import=True)
    return FaceNetwork(embedder, build_head(arguments["head"], embedding_size, num_classes, arguments.get("scale")))


def describe_network(spec: ModelSpec) -> ModelSpec:
    """Add the architecture to ``spec``, whose arguments are those of :func:`face_network`; None and empty ones are left out."""
    arguments = {key: value for key, value in spec.arguments.items() if value is not None and value != {}}
    if not is_import_path(arguments["backbone"]):
        return replace(spec, architecture=ARCHITECTURE, arguments=arguments)
    return replace(spec, architecture=IMPORTED, arguments={**arguments, "num_classes": len(spec.classes)})


def check_face_network(network: nn.Module, source: str) -> FaceNetwork:
    """Refuse a network without an embedder and a head; ``source`` names it."""
    if not isinstance(network, FaceNetwork):
        raise RequestError(
            f"{source} is a {type(network).__name__}, not an embedder with an identity head; make one with: delete-tasks faces "
            "enroll (or forget a class of a plain classifier with: delete-tasks images forget)"
        )
    return network


def load_face_network(options: Mapping[str, Any]) -> tuple[FaceNetwork, ModelSpec]:
    """Load network and description from the model folder of a command's options ``model`` and ``allow_import``."""
    network, spec = load_model(options["model"], options["allow_import"])
    return check_face_network(network, f"'{options['model']}'"), spec


def remove_people(network: FaceNetwork, spec: ModelSpec, ids: Sequence[int]) -> tuple[FaceNetwork, ModelSpec]:
    """Remove the class weights and names of ``ids`` from a network and its description; the embedder is shared."""
    classes = tuple(name for i, name in enumerate(spec.classes) if i not in set(ids))
    smaller = FaceNetwork(network.embedder, without_classes(network.head, ids))
    return smaller, describe_network(replace(spec, classes=classes))
