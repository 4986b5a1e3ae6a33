"""Checks before unlearning: photos look like their person."""

from collections.abc import Sequence
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation import Predictions

FAR_BELOW = 4.0  # robust standard deviations
LEAST_GAP = 0.15  # least difference of cosines that is far, for photos of one person that agree closely


def find_mislabelled(embeddings: Tensor, weights: Tensor, logits: Tensor, labels: Tensor) -> list[int]:
    """Find photos that do not look like their person to the original model.

    The model takes such a photo for another person, and the cosine of its embedding and its person's class weights is far below
    that of the person's other photos, or below that of another person's class weights. ``embeddings`` are ``(n, D)``, class
    ``weights`` ``(C, D)``, ``logits`` ``(n, C)``, ``labels`` int64 ``(n,)``; the indices are ascending.
    """
    cosines = F.normalize(embeddings) @ F.normalize(weights).T
    similarity = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -torch.inf).max(1).values
    mislabelled: set[int] = set()
    for label in labels.unique():
        indices = (labels == label).nonzero().flatten()
        middle = similarity[indices].median()
        spread = 1.4826 * (similarity[indices] - middle).abs().median()
        low = similarity[indices] < middle - max(FAR_BELOW * float(spread), LEAST_GAP)
        taken_for_another = logits[indices].argmax(1) != label
        mislabelled.update(indices[taken_for_another & (low | (similarity[indices] < others[indices]))].tolist())
    return sorted(mislabelled)


def check_looks(
    names: Sequence[str], predictions: Predictions, weights: Tensor, force: bool, noun: str = "photos"
) -> str | None:
    """Check that photos, or templates (``noun``), look like their person to the original model, from its predictions and class
    ``weights`` ``(C, D)``; refuse those that do not or, with ``force``, return a warning of them. None if all do."""
    if predictions.features is None:
        return None
    mislabelled = find_mislabelled(predictions.features, weights, predictions.logits, predictions.labels)
    if not mislabelled:
        return None
    similarities = F.cosine_similarity(predictions.features, weights[predictions.labels]).tolist()
    named = [f"{names[i]} (similarity {similarities[i]:.2f})" for i in mislabelled]
    others = [similarity for i, similarity in enumerate(similarities) if i not in mislabelled]
    rest = f"; the others have {median(others):.2f}" if others else ""
    count = f"{len(mislabelled)} of {len(names)} {noun}"
    text = f"{count} do not look like the person to the model: {list_names(named, longest=None)}{rest}"
    if not force:
        raise RequestError(
            f"{text}. The people on them would be changed as well: remove these {noun}, or accept them with --force"
        )
    return f"{text}. Accepted (--force)"
