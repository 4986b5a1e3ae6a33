"""What forgetting did to the classes that are kept: accuracy by class, the worst and the nearest, and how probabilities fit."""

from __future__ import annotations

from functools import partial

import torch

from ...evaluation import functional as f
from ...evaluation.metric import Measured, Row
from ...evaluation.metrics import fit, worst_drop
from ..attack import Attack, NotMeasured, given, mean_of, members

NEAREST = 3


def kept_drop(row: Row) -> Measured:
    """Points of accuracy lost on held-out samples of kept classes, with each class's own drop."""
    test, original = given(row, "test"), (row.original or {}).get("test")
    if original is None:
        raise NotMeasured("the original is not there any more")
    kept = torch.from_numpy(members(row, "test", "retain"))
    lost = 100 * ((original.predicted == test.labels).double() - (test.predicted == test.labels).double())[kept].numpy()
    accuracies = zip(f.per_class_accuracy(original.counts), f.per_class_accuracy(test.counts), strict=True)
    drops = [f.drop(then, now) for then, now in accuracies]
    by_class = {name: drops[i] for i, name in enumerate(row.names) if i not in set(row.ids) and drops[i] is not None}
    return mean_of(lost, 2, details={"by_class": by_class})


def nearest_drop(row: Row) -> Measured:
    """The same, of the classes nearest to the forgotten ones: those the original gives most probability to on their samples."""
    test, original = given(row, "test"), (row.original or {}).get("test")
    if original is None:
        raise NotMeasured("the original is not there any more")
    shown = torch.from_numpy(members(row, "test"))
    mass = original.logits[shown].softmax(1).mean(0)
    mass[list(row.ids)] = -1
    near = [i for i in torch.argsort(-mass).tolist() if i not in set(row.ids)][:NEAREST]
    chosen = torch.isin(test.labels, torch.tensor(near))
    if not chosen.any():
        raise NotMeasured("no held-out sample shows the classes nearest to the forgotten ones")
    lost = (
        100 * ((original.predicted == test.labels).double() - (test.predicted == test.labels).double())[chosen].numpy()
    )
    return mean_of(lost, 2, details={"classes": [row.names[i] for i in near]})


def _attack(name: str, title: str, unit: str, compute: object, column: str) -> Attack:
    return Attack(
        name, title, unit, compute, of="held-out samples of kept classes", column=column,  # type: ignore[arg-type]
        lacking="no held-out samples were given",
    )  # fmt: skip


ATTACKS = (
    _attack("kept_drop", "loss of the kept classes' accuracy", "points", kept_drop, "kept: lost"),
    _attack(
        "worst_class",
        "loss of the kept class that lost most",
        "points",
        partial(worst_drop, "test", "retain"),
        "kept: worst",
    ),
    _attack(
        "nearest_classes",
        f"loss of the {NEAREST} kept classes nearest to the forgotten",
        "points",
        nearest_drop,
        "kept: nearest",
    ),
    _attack(
        "kept_nll",
        "kept classes' negative log-likelihood",
        "nats",
        partial(fit, f.negative_log_likelihood, 4, "test"),
        "kept: NLL",
    ),
    _attack(
        "kept_ece",
        "kept classes' calibration error",
        "percent",
        partial(fit, f.expected_calibration_error, 2, "test"),
        "kept: ECE",
    ),
)
