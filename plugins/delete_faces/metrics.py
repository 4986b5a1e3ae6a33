"""Metrics of a face network on held-out photos: identification by its head, verification by its embeddings."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from delete_tasks.evaluation import Measured, Metric, Predictions, Row
from delete_tasks.evaluation.functional import independent_pairs, wilson
from delete_tasks.evaluation.metrics import accuracy, accuracy_drop, calibration
from delete_tasks.evaluation.verification import verification
from delete_tasks.plugins import load_offered

NO_PHOTOS = "give held-out photos of the removed and of other people (--test)"
TOO_FEW = "it takes two held-out photos of a removed person, and 1 / FAR pairs of photos of two kept people"


@lru_cache(maxsize=4)  # several metrics of a row, and rows with the same embeddings, share one
def _verify(features: Tensor, labels: Tensor, removed: tuple[int, ...]) -> dict[str, Any]:
    return verification(features.numpy(), labels.numpy(), removed)


def verified(predictions: Predictions | None, removed: Sequence[int]) -> dict[str, Any] | None:
    """Run :func:`delete_tasks.evaluation.verification.verification`; None without predictions or without embeddings."""
    if predictions is None or predictions.features is None:
        return None
    return _verify(predictions.features, predictions.labels, tuple(removed))


def _rate(far: str, kind: str, row: Row) -> Measured:
    """Measure TAR at FAR of ``kind``: 'removed' or 'kept' people, or 'removed_as_kept'."""
    predictions = row.data.get("test")
    check = verified(predictions, row.ids)
    if predictions is None or check is None:
        return Measured(note=NO_PHOTOS if predictions is None else "the model does not return one embedding per photo")
    photos = torch.bincount(predictions.labels, minlength=len(row.names)).tolist()
    counts = [count for i, count in enumerate(photos) if (i in row.ids) == (kind != "kept")]
    value, pairs, independent = check["at"][far][kind], check[f"{kind}_pairs"], independent_pairs(counts)
    if value is None:
        return Measured(note=TOO_FEW)
    if kind == "removed_as_kept":
        return Measured(value, sum(counts), note=f"{pairs:,} pairs, which share photos")
    note = f"{pairs:,} pairs, which share photos: the interval is that of {independent:.3g} pairs that share none"
    return Measured(value, sum(counts), wilson(value, independent), note)


def _tar(name: str, who: str, column: str, far: str, kind: str, **options: Any) -> Metric:
    if kind == "removed" and "detail" not in options:
        # By chance, pairs of a person verify as often as those of two people.
        options |= {"reads": True, "chance": lambda row: 100 * float(far), "role": "forget"}
    return Metric(name, f"pairs of photos of {who} that verify at one false accept in {1 / float(far):,.0f}", "percent",
                  partial(_rate, far, kind), of="photos", column=f"{column}@{far.replace('e-0', 'e-')}", of_features=True,
                  lower_is_better=kind != "kept", lacking=NO_PHOTOS, **options)  # fmt: skip


METRICS = (
    Metric("identified", "held-out photos of the removed people that are identified if their templates are restored", "percent",
           partial(accuracy, "test", "forget"), limit=5.0, of="photos", column="removed", role="forget", predicts=True,
           lacking=NO_PHOTOS),
    Metric("others_identified", "held-out photos of the other people that are identified", "percent",
           partial(accuracy, "test", "retain"), lower_is_better=False, of="photos", column="others", role="retain",
           lacking=NO_PHOTOS),
    Metric("kept_drop", "loss of identified held-out photos of the other people", "points",
           partial(accuracy_drop, "test", "retain"), limit=2.0, of="photos", relative=True, lacking=NO_PHOTOS),
    _tar("verified", "a removed person", "removed TAR", "1e-02", "removed", limit=10.0),
    _tar("verified_1e3", "a removed person", "removed TAR", "1e-03", "removed"),
    *(_tar(f"verified_{short}", "a removed person", "removed TAR", far, "removed", detail=True)
      for short, far in (("1e4", "1e-04"), ("1e5", "1e-05"))),
    _tar("others_verified", "another person", "others TAR", "1e-02", "kept"),
    *(_tar(f"others_verified_{short}", "another person", "others TAR", far, "kept", detail=True)
      for short, far in (("1e3", "1e-03"), ("1e4", "1e-04"), ("1e5", "1e-05"))),
    _tar("verified_as_others", "a removed and another person", "as others", "1e-02", "removed_as_kept", detail=True),
    _tar("verified_as_others_1e3", "a removed and another person", "as others", "1e-03", "removed_as_kept", detail=True),
    *calibration("test", "other people's", detail=True, of="photos", lacking=NO_PHOTOS),
    *load_offered("metrics.faces", "METRICS"),
)  # fmt: skip
