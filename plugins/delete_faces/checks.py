"""Checks of ``faces remove``: photos look like their person, and ``--threshold far=1e-3`` can be set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from delete_images.data.opening import ImageData
from delete_images.models.model_file import SPEC_NAME
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.verification import FARS
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.validate import read_json

from .network import CosineHead, Head

FAR_BELOW = 4.0  # robust standard deviations
LEAST_GAP = 0.15  # least difference of cosines that is far, for photos of one person that agree closely
CHOICES = ", ".join(f"far={far:.0e}".replace("e-0", "e-") for far in FARS)


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


def read_far(text: str | None, head: Head) -> str | None:
    """Read the option as the key of a verification; refuse other rates, and a ``head`` whose scores are no cosines."""
    if text is None:
        return None
    try:
        far = float(text.removeprefix("far=")) if text.startswith("far=") else None
    except ValueError:
        far = None
    if far not in FARS:
        raise RequestError(f"--threshold is '{text}'; expected one of {CHOICES}")
    if not isinstance(head, CosineHead):
        raise RequestError(
            f"--threshold {text} is the cosine of two photos, but this model has a linear head, whose scores are logits; leave "
            "--threshold out"
        )
    return f"{far:.0e}"


def check_far(far: str, tested: ImageData | None, ids: Sequence[int]) -> None:
    """Refuse a rate for which there are too few held-out photos ``tested`` of people other than ``ids``."""
    labels = np.zeros(0, np.int64) if tested is None else tested.labels[~np.isin(tested.labels, list(ids))]
    photos, needed = np.bincount(labels, minlength=1), round(1 / float(far))
    pairs = int((photos.sum() ** 2 - (photos**2).sum()) // 2)
    if pairs < needed or photos.max() < 2:
        raise RequestError(
            f"--threshold far={float(far):g} takes {needed:,} pairs of held-out photos of two people who stay, and two photos of "
            f"one person; the photos to measure on (--test) give {pairs:,} pairs. Give more photos, or another rate ({CHOICES})"
        )


def set_threshold(far: str | None, erased: str | None, checks: Mapping[str, Any]) -> float | None:
    """Write the threshold at a rate, from the verification of the ``erased`` model, into its model.json, and return it; None if
    there is no rate, model or threshold."""
    threshold = checks["erased"]["at"][far]["threshold"] if far is not None and checks.get("erased") else None
    if threshold is None or erased is None:
        return None
    path = Path(erased, SPEC_NAME)
    content = read_json(path)
    content["extra"]["threshold"] = round(threshold, 4)
    save_json(content, path)
    return content["extra"]["threshold"]
