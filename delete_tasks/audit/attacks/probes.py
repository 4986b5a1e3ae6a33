"""Probes: classifiers trained on the features, and the original's last layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ...errors import require
from ...evaluation.metric import Measured, NotMeasured, Row
from ..attack import Attack, chance_of_classes, context_of, features_of, members, reader, samples_of, share_of
from ..probes import Features, Labels, fit_hidden_probe, fit_linear_probe

HIDDEN, NEIGHBOURS = 128, 10
VOTE, PERCEPTRON = f"the vote of {NEIGHBOURS} neighbours", "a probe with a hidden layer"  # in titles
FEW, DECAY = 5000, 0.1  # with fewer samples, a tenth of them is too few for early stopping


def fit_neighbours(features: Features, labels: Labels) -> Any:
    """Fit the vote of the nearest training features by angle (scikit-learn); arguments as of :func:`fit_linear_probe`."""
    require("sklearn", "audit")
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), KNeighborsClassifier(min(NEIGHBOURS, len(labels)))).fit(features, labels)


def fit_perceptron(features: Features, labels: Labels) -> Any:
    """Fit a probe with a hidden layer; arguments as of :func:`fit_linear_probe`."""
    return fit_hidden_probe(features, labels, HIDDEN, decay=DECAY if len(labels) < FEW else None)


def read_forgotten(fit: Callable[[Features, Labels], Any], layer: str, row: Row) -> Measured:
    """Measure the percentage of held-out samples of the forgotten classes whose class a probe predicts."""
    features, labels = samples_of(row, "train", layer)
    test_features, test_labels = samples_of(row, "test", layer)
    predicted = fit(features, labels).predict(test_features)
    return share_of(predicted == test_labels, details={"trained_on": len(labels)})


def read_with_original_head(row: Row) -> Measured:
    """Measure the percentage of held-out samples of the forgotten classes whose class the original's last layer predicts."""
    context, mask, test = context_of(row), members(row, "test"), row.data["test"]
    if any(data["test"] is test for data in context.retrained):
        basis = "the features of a retrained model have another basis"
        raise NotMeasured(f"{basis}, unreadable for the original's last layer")
    if context.original_head is None:
        unknown = "the original's last layer is not known here"
        raise NotMeasured(f"{unknown}, or the logits are not its output on the features")
    with torch.no_grad():
        predicted = context.original_head(torch.from_numpy(features_of(test))).argmax(1)
    return share_of((predicted == test.labels).numpy()[mask])


def _probe(name: str, title: str, column: str, fit: Any, layer: str, level: str) -> Attack:
    of = "last features" if layer == "last" else "features of the stage before the last"
    return reader(
        name,
        f"forgotten classes as {title} reads them from the {of}",
        compute=partial(read_forgotten, fit, layer),
        column=column,
        of_features=True,
        level=level,
        chance=chance_of_classes,
    )


ATTACKS = (
    _probe("linear_probe", "a linear probe", "linear probe", fit_linear_probe, "last", "quick"),
    _probe("knn_probe", VOTE, "k-NN", fit_neighbours, "last", "quick"),
    _probe("hidden_probe", PERCEPTRON, "hidden-layer probe", fit_perceptron, "last", "full"),
    _probe("linear_probe_before", "a linear probe", "linear, stage before", fit_linear_probe, "before", "quick"),
    _probe("knn_probe_before", VOTE, "k-NN, stage before", fit_neighbours, "before", "full"),
    _probe("hidden_probe_before", PERCEPTRON, "hidden, stage before", fit_perceptron, "before", "full"),
    reader(
        "original_head",
        "forgotten classes as the original's last layer reads them from the features",
        compute=read_with_original_head,
        column="original head",
        chance=lambda row: round(100 / len(row.names), 2),
    ),
)
