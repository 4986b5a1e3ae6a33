"""The classes that are kept, before and after: predictions, and how well the probabilities fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from delete_tasks.evaluation.functional import expected_calibration_error, negative_log_likelihood
from delete_tasks.evaluation.metrics import fit_of

FEW = 20  # samples; a class with fewer is not the worst of any


def calibration(logits: Tensor, labels: Tensor, ids: Sequence[int]) -> dict[str, float | None]:
    """``nll`` and ``ece`` (percent) of all C probabilities on samples labelled with a class that remains; None without any.

    Args:
        logits: ``(N, C)``.
        labels: int64 ``(N,)``; -1 where there is none.
        ids: The forgotten classes.
    """
    return {
        "nll": fit_of(negative_log_likelihood, 4, logits, labels, ids).value,
        "ece": fit_of(expected_calibration_error, 2, logits, labels, ids).value,
    }


def compare(
    before: Tensor, after: Tensor, labels: Tensor, ids: Sequence[int], names: Sequence[str]
) -> dict[str, Any] | None:
    """Two models on the samples for which the original predicts a class that is kept.

    Args:
        before, after: Logits ``(N, C)`` of the original and of the erased model.
        labels: int64 ``(N,)``; -1 where there is none.
        ids: The forgotten classes.
        names: Of all classes.

    Returns:
        ``samples``; ``same_prediction``, percent of them; ``worst_class``, the class (of 20 samples or more) with the smallest
        share, or None; mean ``confidence`` before and after; and on labelled samples of kept classes ``accuracy``, ``nll`` and
        ``ece``, before and after. None where there is no such sample.
    """
    predicted = before.argmax(1)
    kept = ~torch.isin(predicted, torch.tensor(list(ids)))
    if not kept.any():
        return None
    same = predicted == after.argmax(1)
    shares = {
        names[i]: round(100 * float(same[predicted == i].float().mean()), 2)
        for i in range(len(names))
        if i not in ids and int((predicted == i).sum()) >= FEW
    }
    worst = min(shares, key=shares.__getitem__) if shares else None
    found: dict[str, Any] = {
        "samples": int(kept.sum()),
        "same_prediction": round(100 * float(same[kept].float().mean()), 2),
        "worst_class": None if worst is None else {"class": worst, "same_prediction": shares[worst]},
        "confidence": {
            name: round(float(logits[kept].softmax(1).max(1).values.mean()), 4)
            for name, logits in (("before", before), ("after", after))
        },
    }
    labelled = (labels >= 0) & ~torch.isin(labels, torch.tensor(list(ids)))
    if labelled.any():
        pairs = {"before": before, "after": after}
        fits = {name: calibration(logits, labels, ids) for name, logits in pairs.items()}
        right = {name: (logits.argmax(1) == labels)[labelled].float().mean() for name, logits in pairs.items()}
        found["accuracy"] = {name: round(100 * float(value), 2) for name, value in right.items()}
        found |= {figure: {name: fit[figure] for name, fit in fits.items()} for figure in ("nll", "ece")}
    return found
