"""Face-identification models: an embedder, and an identity head, whose class weights are templates of the faces."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from delete_images.models.architectures import register
from delete_images.models.architectures.registry import is_import_path
from delete_images.models.model_file import ModelSpec, load_model
from delete_tasks.errors import RequestError

from .backbones import build_backbone

ARCHITECTURE = "face_network"
IMPORTED = "delete_faces.network:imported_face_network"
HEADS = ("linear", "cosine")
SCALE = 30.0  # as in CosFace's and ArcFace's experiments on small sets


class LinearHead(nn.Linear):
    """Linear layer with a bias."""

    def scores(self, logits: Tensor) -> Tensor:
        """Convert logits ``(N, C)`` to scores that are compared with a threshold: the logits themselves."""
        return logits


class CosineHead(nn.Module):
    """Scaled cosine of embedding and class weights, as in CosFace (arXiv 1801.09414) and ArcFace (arXiv 1801.07698). Their
    margins belong to training, see :func:`delete_faces.gallery.enroll.fit_head`. ``scale`` is the factor of the cosines."""

    def __init__(self, embedding_size: int, num_classes: int, scale: float = SCALE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        nn.init.normal_(self.weight, std=embedding_size**-0.5)
        self.scale = scale
        self.hold_length = False

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map embeddings ``(N, D)`` of any length to logits ``(N, C)``. With ``hold_length`` lengths are constants for the
        gradient. Otherwise it is tangential, and an embedding along its person's class weights can hardly leave them: the rest of
        the push away is weak beside the pull towards other class weights, which all photos of the person share."""
        lengths = embeddings.norm(dim=1, keepdim=True)
        # The length of an embedding of which a projection left nothing would make the gradient almost infinite.
        least = 1e-2 * float(lengths.detach().mean()) if self.hold_length else 0.0
        lengths = lengths.clamp_min(max(least, 1e-12))
        unit = embeddings / (lengths.detach() if self.hold_length else lengths)
        return self.scale * nn.functional.linear(unit, nn.functional.normalize(self.weight))

    def scores(self, logits: Tensor) -> Tensor:
        """Convert logits ``(N, C)`` to cosines, -1 to 1."""
        return logits / self.scale


Head = LinearHead | CosineHead


def build_head(kind: str, embedding_size: int, num_classes: int, scale: float | None = None) -> Head:
    """Build a random head, 'linear' or 'cosine' with a ``scale`` above zero (None: 30). Refuse other kinds and scales."""
    if kind not in HEADS:
        raise RequestError(f"head is '{kind}'; expected one of {', '.join(HEADS)}")
    if kind == "linear":
        if scale is not None:
            raise RequestError("a linear head has no scale; leave it out, or take head='cosine'")
        return LinearHead(embedding_size, num_classes)
    scale = SCALE if scale is None else scale
    if not scale > 0:
        raise RequestError(f"the scale of a cosine head is {scale}; expected a number above 0, usually 16 to 64")
    return CosineHead(embedding_size, num_classes, scale)


def without_classes(head: Head, ids: Sequence[int]) -> Head:
    """Copy a head without the class weights of ``ids``; refuse to leave fewer than two classes."""
    people = head.weight.shape[0]
    others = [i for i in range(people) if i not in set(ids)]
    if len(others) < 2:
        raise RequestError(
            f"taking {len(ids)} of {people} people out of the head leaves {len(others)}, and a model needs two or more to choose "
            "among; keep the class weights (--keep-row), or enroll further people first"
        )
    smaller = copy.deepcopy(head)
    # Indexing copies: no file gets the removed class weights.
    smaller.weight = nn.Parameter(head.weight.detach()[others])
    if isinstance(smaller, LinearHead):
        smaller.bias = nn.Parameter(smaller.bias.detach()[others])
        smaller.out_features = len(others)
    return smaller


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
        return nn.functional.normalize(self.embedder(faces).float())


@register(ARCHITECTURE)
def face_network(
    num_classes: int,
    backbone: str = "mobilefacenet",
    embedding_size: int = 128,
    head: str = "cosine",
    scale: float | None = None,
    backbone_arguments: Mapping[str, Any] | None = None,
) -> FaceNetwork:
    """Build an embedder of faces with an identity head; arguments are a model.json's. Backbones are those of ``build_backbone``
    but for import paths; ``scale`` is a cosine head's. Refuse an unknown backbone or head, or arguments that they do not take."""
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
