"""Information difference: mutual information of each stage's features and the forget label."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ..attack import NotMeasured, interval_of_mean, members, predictions_of, reader
from ..probes import Features, fit_hidden_probe

CRITIC = 64  # hidden units
DECAY = 1.0  # an overconfident critic, e.g. one stopped by its accuracy, underestimates the information


def mutual_information(
    train: tuple[Features, NDArray[np.bool_]], test: tuple[Features, NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Compute InfoNCE's lower bound of the mutual information of features and a binary label, nats by sample: float64 ``(m,)``.

    InfoNCE is the mean of ``log f(z, y) / mean over y' of f(z, y')`` (van den Oord et al., arXiv 1807.03748). For a binary
    label the mean over y' is ``p1 f(z, 1) + p0 f(z, 0)``, so the best critic is a classifier of the label, and the bound is its
    log-likelihood less that of the label's frequencies. The critic has one hidden layer; it is fitted on ``train``, features
    ``(n, d)`` and labels ``(n,)``, and evaluated on ``test``, ``(m, d)`` and ``(m,)``.
    """
    critic = fit_hidden_probe(train[0], train[1].astype(np.int64), CRITIC, DECAY)
    probability = critic.predict_proba(test[0])[:, 1].clip(1e-6, 1 - 1e-6)
    prior, share = float(train[1].mean()), float(test[1].mean())
    ratio = np.where(test[1], np.log(probability / prior), np.log((1 - probability) / (1 - prior)))
    # Weigh the label's values by their frequencies in training.
    return ratio * np.where(test[1], prior / share, (1 - prior) / (1 - share))


def read_information(row: Row) -> Measured:
    """Measure the information about the forget label, summed over stages (each at least 0); this figure's depth is 1 - IDI."""
    train, test = predictions_of(row, "train"), predictions_of(row, "test")
    if not test.layers or not train.layers:
        raise NotMeasured("features of the stages are not known")
    forgotten = {split: members(row, split) for split in ("train", "test")}
    labelled = {split: mask | members(row, split, "retain") for split, mask in forgotten.items()}
    layers, total = {}, np.zeros(int(labelled["test"].sum()))
    for name in test.layers:
        pairs = ((row.data[i].layers[name].numpy()[mask], forgotten[i][mask]) for i, mask in labelled.items())
        samples = mutual_information(*pairs)
        layers[name] = round(max(0.0, float(samples.mean())), 4)
        total += samples if samples.mean() > 0 else 0
    return Measured(round(sum(layers.values()), 4), len(total), interval_of_mean(total), details={"layers": layers})


_title = "information about the forget label in the stages' features (InfoNCE; IDI = 1 - depth)"
_attack = partial(reader, unit="nats", of_features=True, level="full", ratio="IDI", source="arXiv 2405.17878")
ATTACKS = (_attack("information", _title, compute=read_information, column="information", chance=lambda row: 0.0),)
