"""A face-identification model: an embedder with an identity head, and how it is described and built."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from delete_images.models.architectures import register
from delete_images.models.architectures.registry import is_import_path
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError

from .backbones import build_backbone
from .heads import Head, build_head, without_rows

ARCHITECTURE = "face_network"
IMPORTED = "delete_faces.network:imported_face_network"


class FaceNetwork(nn.Module):
    """Faces ``(N, 3, H, W)`` to identity logits ``(N, C)``."""

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
    """Build a network with random weights; model.json's ``arguments`` are this function's. Backbones are those of
    :func:`delete_faces.backbones.build_backbone` but for import paths; ``scale`` is a cosine head's.

    Raises:
        RequestError: A backbone or head that cannot be built so.
    """
    embedder = build_backbone(backbone, embedding_size, backbone_arguments)
    return FaceNetwork(embedder, build_head(head, embedding_size, num_classes, scale))


def imported_face_network(num_classes: int, backbone: str, **arguments: Any) -> FaceNetwork:
    """As :func:`face_network` for a backbone given by import path. A model.json reaches it by import path, too, so that
    loading such a model asks for ``--allow-import`` before any of the backbone's code runs."""
    embedding_size = arguments.pop("embedding_size")
    embedder = build_backbone(backbone, None, arguments.pop("backbone_arguments", None), allow_import=True)
    return FaceNetwork(embedder, build_head(arguments["head"], embedding_size, num_classes, arguments.get("scale")))


def describe_network(spec: ModelSpec) -> ModelSpec:
    """``spec`` of :func:`face_network`, with the architecture that its backbone needs."""
    if not is_import_path(spec.arguments["backbone"]):
        return replace(spec, architecture=ARCHITECTURE)
    return replace(spec, architecture=IMPORTED, arguments={**spec.arguments, "num_classes": len(spec.classes)})


def check_face_network(network: nn.Module, source: str) -> FaceNetwork:
    """``network`` if it has an embedder and a head.

    Raises:
        RequestError: It has not.
    """
    if not isinstance(network, FaceNetwork):
        raise RequestError(
            f"{source} is a {type(network).__name__}, not an embedder with an identity head; make one with: delete-tasks faces "
            "enroll (or forget a class of a plain classifier with: delete-tasks images forget)"
        )
    return network


def remove_people(network: FaceNetwork, spec: ModelSpec, ids: Sequence[int]) -> tuple[FaceNetwork, ModelSpec]:
    """Remove the class weights and names of ``ids`` from a network and its description; the embedder is shared.

    Raises:
        RequestError: As :func:`delete_faces.heads.without_rows`.
    """
    head, gone = without_rows(network.head, ids), set(ids)
    classes = tuple(name for i, name in enumerate(spec.classes) if i not in gone)
    return FaceNetwork(network.embedder, head), describe_network(replace(spec, classes=classes))
