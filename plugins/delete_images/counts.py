"""On how many images the figures rest, and how many a model lost and gained: what an interval takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .evaluate import Answers


def counts(
    train: Answers | None, test: Answers | None, original: Answers | None, ids: Sequence[int]
) -> dict[str, dict[str, Any] | None]:
    """Counts of one row of a table, for ``train`` and ``test``; None where there are no such images.

    ``forget`` and ``remain`` are labelled images of those classes, ``of_class`` images by class id, ``lost`` and ``gained``
    images of remaining classes that only the original, and only this model, predicts as their class.

    Args:
        train: A model's predictions for training images.
        test: For test images.
        original: The original's for the same test images.
        ids: The forgotten classes.
    """
    return {"train": _of(train, None, ids), "test": _of(test, original, ids)}


def _of(found: Answers | None, original: Answers | None, ids: Sequence[int]) -> dict[str, Any] | None:
    if found is None:
        return None
    known, classes = found.labels >= 0, found.logits.shape[1]
    gone = torch.isin(found.labels, torch.tensor(list(ids), dtype=found.labels.dtype))
    out: dict[str, Any] = {
        "forget": int((known & gone).sum()),
        "remain": int((known & ~gone).sum()),
        "of_class": torch.bincount(found.labels[known], minlength=classes).tolist(),
        "lost": None,
        "gained": None,
    }
    if original is not None:
        kept = known & ~gone
        now, then = ((each.logits.argmax(1) == each.labels)[kept] for each in (found, original))
        out |= {"lost": int((then & ~now).sum()), "gained": int((now & ~then).sum())}
    return out
