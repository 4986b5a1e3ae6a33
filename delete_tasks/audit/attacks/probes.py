"""Probes: classifiers trained on the features, as someone with labelled samples would train them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import require
from ...evaluation.metric import Measured, Row
from ..attack import Attack, attacker_rows, chance_of_classes, features_of, given, members, share_of
from ..probes import fit_hidden_probe, fit_linear_probe

HIDDEN, NEIGHBOURS = 128, 10
FEW, DECAY = 5000, 0.1  # of fewer features, a tenth is too few to stop training by
Features: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]


def fit_neighbours(features: Features, labels: Labels) -> Any:
    """The vote of the nearest training features by angle (scikit-learn); arguments as of :func:`fit_linear_probe`."""
    require("sklearn", "audit")
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), KNeighborsClassifier(min(NEIGHBOURS, len(labels)))).fit(features, labels)


def fit_perceptron(features: Features, labels: Labels) -> Any:
    """A probe with a hidden layer; arguments as of :func:`fit_linear_probe`."""
    return fit_hidden_probe(features, labels, HIDDEN, decay=DECAY if len(labels) < FEW else None)


def probe_hits(
    fit: Callable[[Features, Labels], Any], train: tuple[Features, Labels], test: tuple[Features, Labels]
) -> NDArray[np.bool_]:
    """Whether a probe fitted on features ``(n, d)`` and labels ``(n,)`` reads each of the test features ``(m, d)`` as its class.

    Returns:
        Booleans ``(m,)``.
    """
    return np.asarray(fit(*train).predict(test[0]) == test[1])


def read_forgotten(fit: Callable[[Features, Labels], Any], layer: str, row: Row) -> Measured:
    """Percent of the held-out samples of the forgotten classes that a probe reads as their class."""
    train, test, shown = attacker_rows(row, layer), given(row, "test"), members(row, "test")
    hits = probe_hits(fit, train, (features_of(test, layer)[shown], test.labels.numpy()[shown]))
    return share_of(hits, details={"trained_on": len(train[1])})


def _probe(name: str, title: str, column: str, fit: Any, layer: str, level: str) -> Attack:
    of = "last features" if layer == "last" else "features of the stage before the last"
    return Attack(
        name,
        f"forgotten classes as {title} reads them from the {of}",
        "percent",
        partial(read_forgotten, fit, layer),
        of="held-out samples",
        column=column,
        of_features=True,
        level=level,
        reads=True,
        chance=chance_of_classes,
    )


ATTACKS = (
    _probe("linear_probe", "a linear probe", "linear probe", fit_linear_probe, "last", "quick"),
    _probe("knn_probe", f"the vote of {NEIGHBOURS} neighbours", "k-NN", fit_neighbours, "last", "quick"),
    _probe("hidden_probe", "a probe with a hidden layer", "hidden-layer probe", fit_perceptron, "last", "full"),
    _probe("linear_probe_before", "a linear probe", "linear, stage before", fit_linear_probe, "before", "quick"),
    _probe(
        "knn_probe_before",
        f"the vote of {NEIGHBOURS} neighbours",
        "k-NN, stage before",
        fit_neighbours,
        "before",
        "full",
    ),
    _probe(
        "hidden_probe_before", "a probe with a hidden layer", "hidden, stage before", fit_perceptron, "before", "full"
    ),
)
