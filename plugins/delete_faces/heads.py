"""Identity heads: from an embedding to one logit for each person. The class weights of a person are a template of the face."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import RequestError

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
        """Map embeddings ``(N, D)`` of any length to logits ``(N, C)``.

        With ``hold_length`` lengths are constants for the gradient. Otherwise the gradient is tangential, and an embedding along
        its person's class weights can hardly leave them: the rest of the push away from them is weak beside the pull towards
        other class weights, which all photos of the person share.
        """
        lengths = embeddings.norm(dim=1, keepdim=True)
        # The length of an embedding of which a projection left nothing would make the gradient almost infinite.
        least = 1e-2 * float(lengths.detach().mean()) if self.hold_length else 0.0
        lengths = lengths.clamp_min(max(least, 1e-12))
        unit = embeddings / (lengths.detach() if self.hold_length else lengths)
        return self.scale * F.linear(unit, F.normalize(self.weight))

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
