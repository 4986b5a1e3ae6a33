"""Identity heads: from an embedding to one logit for each person. A row of ``weight`` is a template of a person's face."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import RequestError

HEADS = ("linear", "cosine")
SCALE = 30.0  # of cosine logits, as in CosFace's and ArcFace's experiments on small sets


class LinearHead(nn.Linear):
    """One row and one bias a person."""

    def scores(self, logits: Tensor) -> Tensor:
        """Convert logits ``(N, C)`` to scores that are compared with a threshold: the logits themselves."""
        return logits


class CosineHead(nn.Module):
    """Scaled cosine of embedding and row, as in CosFace (arXiv 1801.09414) and ArcFace (arXiv 1801.07698).

    Their margins belong to training (:func:`delete_faces.gallery.enroll.fit_head`); nothing is added here.

    Args:
        embedding_size: D.
        num_classes: C.
        scale: What cosines are multiplied by.
    """

    def __init__(self, embedding_size: int, num_classes: int, scale: float = SCALE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        nn.init.normal_(self.weight, std=embedding_size**-0.5)
        self.scale = scale
        self.hold_length = False

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` of any length to logits ``(N, C)``.

        With ``hold_length`` the same logits have another gradient: lengths count as constants. Through the scaling to length
        1 the gradient is tangential, and an embedding that lies along its person's row can hardly leave it: what is left
        of the pull away from the row is weak beside the pull towards other rows, which all photos of the person share.
        """
        lengths = embeddings.norm(dim=1, keepdim=True)
        # A constant next to 0 would make the gradient of an embedding that a projection left nothing of as good as infinite.
        least = 1e-2 * float(lengths.detach().mean()) if self.hold_length else 0.0
        lengths = lengths.clamp_min(max(least, 1e-12))
        unit = embeddings / (lengths.detach() if self.hold_length else lengths)
        return self.scale * F.linear(unit, F.normalize(self.weight))

    def scores(self, logits: Tensor) -> Tensor:
        """Convert logits ``(N, C)`` to cosines, -1 to 1."""
        return logits / self.scale


Head = LinearHead | CosineHead


def build_head(kind: str, embedding_size: int, num_classes: int, scale: float | None = None) -> Head:
    """Build a head with random weights. ``kind`` is 'linear' or 'cosine'; ``scale`` is a cosine head's, None takes 30.

    Raises:
        RequestError: Unknown kind, or a scale that is not above zero or that a linear head cannot use.
    """
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


def without_rows(head: Head, ids: Sequence[int]) -> Head:
    """Make a new head without the classes ``ids``; the given one is not changed.

    Raises:
        RequestError: Fewer than two rows would be left.
    """
    gone = set(ids)
    kept = [i for i in range(head.weight.shape[0]) if i not in gone]
    if len(kept) < 2:
        raise RequestError(
            f"taking {len(ids)} of {head.weight.shape[0]} people out of the head leaves {len(kept)}, and a model needs two "
            "or more to choose among; keep the rows (--keep-row), or enroll further people first"
        )
    # Cloned, since a view would keep the whole matrix, and with it the rows, in the storage that is saved.
    rows = head.weight.detach()[kept].clone()
    new: Head
    if isinstance(head, CosineHead):
        new = CosineHead(rows.shape[1], len(kept), head.scale)
    else:
        new = LinearHead(rows.shape[1], len(kept), bias=head.bias is not None)
        if head.bias is not None:
            new.bias = nn.Parameter(head.bias.detach()[kept].clone())
    new.weight = nn.Parameter(rows)
    return new.to(rows.device)
