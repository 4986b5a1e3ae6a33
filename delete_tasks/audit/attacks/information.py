"""Information difference: how much each stage's features tell of whether a sample is of a forgotten class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ..attack import Attack, Found, NotMeasured, given, interval_of_mean, members
from ..probes import fit_hidden_probe

CRITIC = 64  # hidden units
DECAY = 1.0  # a critic that is too sure of itself, as one that stops by its accuracy, finds less than there is


def mutual_information(
    train: tuple[NDArray[np.float32], NDArray[np.bool_]], test: tuple[NDArray[np.float32], NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """InfoNCE's bound on the information in nats that features carry of a binary label, sample by sample: float64 ``(m,)``.

    InfoNCE is the mean of ``log f(z, y) / mean over y' of f(z, y')`` (van den Oord et al., arXiv 1807.03748). With a label of two
    values the mean over y' is ``p1 f(z, 1) + p0 f(z, 0)``, so the best critic is a classifier of the label, and the bound is its
    log-likelihood less that of the label's frequencies. The critic has one hidden layer, and is not asked about what it was
    trained on.

    Args:
        train: Features ``(n, d)`` and labels ``(n,)`` that the critic is fitted on.
        test: Features ``(m, d)`` and labels ``(m,)`` that it is asked about.
    """
    critic = fit_hidden_probe(train[0], train[1].astype(np.int64), CRITIC, DECAY)
    told = critic.predict_proba(test[0])[:, 1].clip(1e-6, 1 - 1e-6)
    known = float(train[1].mean())
    ratio = np.where(test[1], np.log(told / known), np.log((1 - told) / (1 - known)))
    # Each of the two values weighs as it does where the critic was fitted.
    share = float(test[1].mean())
    return ratio * np.where(test[1], known / share, (1 - known) / (1 - share))


def information(row: Row) -> Measured:
    """Information about the forget label, summed over the stages, each at least 0: the depth of this figure is 1 - IDI."""
    train, test = given(row, "train"), given(row, "test")
    if not test.layers or not train.layers:
        raise NotMeasured("features of the stages are not known")
    forgotten = {"train": members(row, "train"), "test": members(row, "test")}
    known = {name: row.data[name].labels.numpy() >= 0 for name in forgotten}
    members(row, "train", "retain"), members(row, "test", "retain")  # a label of one value tells nothing
    layers, total = {}, np.zeros(int(known["test"].sum()))
    for name in test.layers:
        pairs = [
            (row.data[split].layers[name].numpy()[known[split]], forgotten[split][known[split]])
            for split in ("train", "test")
        ]
        samples = mutual_information(*pairs)
        layers[name] = round(max(0.0, float(samples.mean())), 4)
        total += samples if samples.mean() > 0 else 0
    found = round(sum(layers.values()), 4)
    return Found(found, len(total), interval_of_mean(total), details={"layers": layers})


ATTACKS = (
    Attack(
        "information",
        "information about the forget label in the stages' features (InfoNCE; IDI = 1 - depth)",
        "nats",
        information,
        of="held-out samples",
        column="information (IDI)",
        of_features=True,
        level="full",
        reads=True,
        source="arXiv 2405.17878",
        chance=lambda row: 0.0,
    ),
)
