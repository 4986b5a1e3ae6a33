"""Open-set verification: do two photos show one person? What a face system asks of embeddings, with no head in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delete_tasks.errors import require

FARS = (1e-2, 1e-3)


def verification(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], removed: Sequence[int], fars: Sequence[float] = FARS
) -> dict[str, Any]:
    """TAR at FAR of kept and of removed people, thresholds set on pairs of kept people alone.

    A pair of photos is accepted where the cosine of its embeddings reaches the threshold. FAR is the share of impostor pairs
    (different people, both kept) that are accepted, TAR that of genuine pairs (one person); the threshold is the lowest at
    which FAR is at most what is asked for (scikit-learn's ROC curve).

    Args:
        embeddings: ``(n, d)`` of any length.
        labels: ``(n,)``.
        removed: Labels of the removed people.
        fars: False accept rates.

    Returns:
        Counts of pairs (``impostor_pairs``, ``kept_pairs``, ``removed_pairs``, ``removed_as_kept_pairs``) and ``at``: for each
        FAR, as a string such as '1e-03', the ``threshold`` and, in percent, ``kept``, ``removed`` (TAR of each) and
        ``removed_as_kept`` (pairs of a removed and a kept person that are accepted). None where there are no pairs, or
        fewer impostor pairs than 1 / FAR.
    """
    require("sklearn", "faces")
    from sklearn.metrics import roc_curve

    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T)[first, second].astype(np.float64)
    gone = np.isin(labels, list(removed))
    same = labels[first] == labels[second]
    kept = ~gone[first] & ~gone[second]
    both_gone = gone[first] & gone[second]
    genuine, impostor = scores[kept & same], scores[kept & ~same]
    forgotten, crossed = scores[both_gone & same], scores[gone[first] != gone[second]]
    at: dict[str, Any] = {}
    for far in fars:
        threshold = None
        if len(genuine) and len(impostor) >= 1 / far:
            truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
            rates, _, thresholds = roc_curve(truth, np.r_[genuine, impostor], drop_intermediate=False)
            threshold = float(thresholds[np.flatnonzero(rates <= far)[-1]])
        at[f"{far:.0e}"] = {
            "threshold": None if threshold is None or not np.isfinite(threshold) else round(threshold, 4),
            "kept": _share(genuine, threshold),
            "removed": _share(forgotten, threshold),
            "removed_as_kept": _share(crossed, threshold),
        }
    return {
        "impostor_pairs": len(impostor),
        "kept_pairs": len(genuine),
        "removed_pairs": len(forgotten),
        "removed_as_kept_pairs": len(crossed),
        "at": at,
    }


def _share(scores: NDArray[np.float64], threshold: float | None) -> float | None:
    return round(100 * float((scores >= threshold).mean()), 2) if threshold is not None and len(scores) else None


def verdict(before: dict[str, Any], after: dict[str, Any], identified: float | None) -> str:
    """In words, whether the removed people are still recognised.

    Args:
        before: Figures of the original, see :func:`verification`.
        after: Figures of the erased model.
        identified: Percent of the removed people's held-out photos that the erased model's head gives to them; None where
            that was not measured.
    """
    measured = [far for far in after["at"] if None not in (after["at"][far]["removed"], before["at"][far]["removed"])]
    if not measured:
        loosest = max(map(float, after["at"]))
        return (
            "Not measured: whether embeddings still verify the removed people. That takes two or more held-out photos of a "
            f"removed person, and {1 / loosest:.0f} pairs of photos of different kept people to set the threshold on (--eval)."
        )
    strictest = min(measured, key=float)
    now, then = after["at"][strictest]["removed"], before["at"][strictest]["removed"]
    head = "" if identified is None else f"The head names them in {identified:.1f}% of held-out photos. "
    rate = f"two photos of a removed person still match in {now:.1f}% of pairs at FAR {float(strictest):g} ({then:.1f}% before)"
    if now >= then:
        return (
            f"Not forgotten. {head}Embeddings are what a face system compares, and {rate}: the person was only hidden."
        )
    if now > then / 2:
        return f"Partly forgotten. {head}Embeddings recognise them less, but {rate}."
    return (
        f"Largely forgotten, not wholly. {head}By embeddings {rate}."
        if now > 0
        else (
            f"No longer verified. {head}By embeddings {rate}. A probe trained on labelled photos may still read more."
        )
    )
