"""Threshold of an erased model at a false accept rate (``faces remove --threshold far=1e-3``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delete_images.data.opening import ImageData
from delete_images.models.model_file import SPEC_NAME
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.verification import FARS
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.validate import read_json

from .heads import CosineHead, Head

CHOICES = ", ".join(f"far={far:.0e}".replace("e-0", "e-") for far in FARS)


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
