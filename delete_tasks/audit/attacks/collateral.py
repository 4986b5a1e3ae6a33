"""Collateral damage to the other classes: accuracy overall, of the worst and the nearest class, and calibration."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...evaluation import functional as f
from ...evaluation.metric import Measured, Row
from ...evaluation.metrics import fit, worst_drop
from ...evaluation.predictions import Predictions
from ..attack import Attack, NotMeasured, mean_of, members, original_test

NEAREST = 3


def _lost(original: Predictions, test: Predictions, mask: Tensor) -> NDArray[np.float64]:
    """Return the change of accuracy of each sample of a mask in points: 100 lost, -100 gained."""
    right = [(predictions.predicted == test.labels).double() for predictions in (original, test)]
    return 100 * (right[0] - right[1])[mask].numpy()


def kept_drop(row: Row) -> Measured:
    """Measure the drop of accuracy in points on held-out samples of the other classes, overall and by class."""
    original, test = original_test(row), row.data["test"]
    lost = _lost(original, test, torch.from_numpy(members(row, "test", "retain")))
    drops = list(map(f.drop, f.per_class_accuracy(original.counts), f.per_class_accuracy(test.counts)))
    by_class = {name: drops[i] for i, name in enumerate(row.names) if i not in set(row.ids) and drops[i] is not None}
    return mean_of(lost, 2, details={"by_class": by_class})


def nearest_drop(row: Row) -> Measured:
    """Measure the same for the classes to which the original gives most probability on the forgotten classes' samples."""
    original, test = original_test(row), row.data["test"]
    mass = original.logits[torch.from_numpy(members(row, "test"))].softmax(1).mean(0)
    mass[list(row.ids)] = -1
    near = [i for i in torch.argsort(-mass).tolist() if i not in set(row.ids)][:NEAREST]
    chosen = torch.isin(test.labels, torch.tensor(near))
    if not chosen.any():
        raise NotMeasured("no held-out sample shows the classes nearest to the forgotten ones")
    return mean_of(_lost(original, test, chosen), 2, details={"classes": [row.names[i] for i in near]})


_attack = partial(Attack, of="held-out samples of kept classes", lacking="no held-out samples were given", group="kept")
_nearest = f"loss of the {NEAREST} kept classes nearest to the forgotten"
_worst = partial(worst_drop, "test", "retain")
_nll = partial(fit, f.negative_log_likelihood, 4, "test")
_ece = partial(fit, f.expected_calibration_error, 2, "test")
ATTACKS = (
    _attack("kept_drop", "loss of the kept classes' accuracy", "points", kept_drop, column="kept: lost"),
    _attack("worst_class", "loss of the kept class that lost most", "points", _worst, column="kept: worst"),
    _attack("nearest_classes", _nearest, "points", nearest_drop, column="kept: nearest"),
    _attack("kept_nll", "kept classes' negative log-likelihood", "nats", _nll, column="kept: NLL"),
    _attack("kept_ece", "kept classes' calibration error", "percent", _ece, column="kept: ECE"),
)
