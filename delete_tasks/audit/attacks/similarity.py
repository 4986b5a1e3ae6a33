"""Similarity of features: linear CKA of forgotten samples' features with the original's and a retrained model's."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ..attack import Attack, Found, NotMeasured, bootstrap, features_of, members, original_test, other_retrained

MOST, LEAST = 500, 10  # samples; the matrices have an entry for each pair


def linear_cka(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Compute the linear centred kernel alignment, 0 to 1, from Gram matrices ``(n, n)`` of two models' features of n samples.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv 1905.00414, eq. 4.
    """
    first, second = _centred(first), _centred(second)
    length = np.linalg.norm(first) * np.linalg.norm(second)
    return float((first * second).sum() / length) if length > 0 else np.nan


def _centred(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    return gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()


def _compare(row: Row, other: Mapping[str, Any]) -> Found:
    indices = np.flatnonzero(members(row, "test"))[:MOST]
    if len(indices) < LEAST:
        raise NotMeasured(f"CKA needs {LEAST} held-out samples of the forgotten classes, and there are {len(indices)}")
    features = (features_of(data["test"])[indices].astype(np.float64) for data in (row.data, other))
    first, second = (values @ values.T for values in features)
    value = linear_cka(first, second)
    if np.isnan(value):
        raise NotMeasured("a model gives all these samples the same features")
    interval = bootstrap(lambda i: linear_cka(first[np.ix_(i, i)], second[np.ix_(i, i)]), len(indices), 100)
    return Found(round(value, 4), len(indices), interval)


def cka_original(row: Row) -> Measured:
    """Measure CKA with the original's features on held-out samples of the forgotten classes."""
    return _compare(row, {"test": original_test(row)})


def cka_retrained(row: Row) -> Measured:
    """Measure the mean CKA with other retrained models' features on held-out samples of the forgotten classes."""
    figures = [_compare(row, other) for other in other_retrained(row)]
    if len(figures) == 1:
        return figures[0]
    values = [figure.value for figure in figures if figure.value is not None]
    return Found(round(float(np.mean(values)), 4), figures[0].count, note=f"the mean of {len(values)} retrained models")


TITLE = "similarity of features of forgotten samples with the {} (linear CKA)"
_attack = partial(Attack, unit="similarity", of="held-out samples", group="kept", source="arXiv 1905.00414")
_retrained = partial(_attack, compute=cka_retrained, lower_is_better=False, column="CKA, retrained")
ATTACKS = (
    _attack("cka_original", TITLE.format("original's"), compute=cka_original, column="CKA, original"),
    _retrained("cka_retrained", TITLE.format("retrained model's")),
)
