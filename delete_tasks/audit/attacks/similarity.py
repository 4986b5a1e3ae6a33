"""How alike features are: linear CKA of forgotten samples' features with the original's and with a retrained model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ..attack import Attack, Found, NotMeasured, bootstrap, context_of, features_of, given, members

MOST = 500  # samples: the matrices are of their pairs


def linear_cka(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Linear centred kernel alignment of features ``(n, d)`` and ``(n, e)`` of the same samples, 0 to 1.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv 1905.00414, eq. 4.
    """
    return _alignment(first.astype(np.float64) @ first.T, second.astype(np.float64) @ second.T)


def _alignment(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = _centred(one), _centred(other)
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / length) if length > 0 else np.nan


def _centred(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    return gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()


def _compare(row: Row, other: Mapping[str, Any]) -> Found:
    shown = np.flatnonzero(members(row, "test"))[:MOST]
    if len(shown) < 10:
        raise NotMeasured(
            f"CKA of {len(shown)} samples says nothing; it takes 10 held-out ones of the forgotten classes"
        )
    first, second = (features_of(data["test"])[shown].astype(np.float64) for data in (row.data, other))
    one, two = first @ first.T, second @ second.T
    value = _alignment(one, two)
    if np.isnan(value):
        raise NotMeasured("a model gives all these samples the same features")
    interval = bootstrap(lambda rows: _alignment(one[np.ix_(rows, rows)], two[np.ix_(rows, rows)]), len(shown), 100)
    return Found(round(value, 4), len(shown), interval)


def cka_original(row: Row) -> Measured:
    """CKA with the original's features, on held-out samples of the forgotten classes."""
    given(row, "test")
    if row.original is None:
        raise NotMeasured("the original is not there any more")
    return _compare(row, row.original)


def cka_retrained(row: Row) -> Measured:
    """Mean CKA with retrained models' features (others than this one), on held-out samples of the forgotten classes."""
    test = given(row, "test")
    others = [data for data in context_of(row).retrained if data["test"] is not test]
    if not others:
        raise NotMeasured("no other retrained model is given")
    found = [_compare(row, other) for other in others]
    if len(found) == 1:
        return found[0]
    values = [one.value for one in found if one.value is not None]
    return Found(round(float(np.mean(values)), 4), found[0].count, note=f"the mean of {len(values)} retrained models")


SOURCE = "arXiv 1905.00414"
ATTACKS = (
    Attack(
        "cka_original",
        "similarity of features of forgotten samples with the original's (linear CKA)",
        "similarity",
        cka_original,
        of="held-out samples",
        column="CKA, original",
        source=SOURCE,
    ),
    Attack(
        "cka_retrained",
        "similarity of features of forgotten samples with the retrained model's (linear CKA)",
        "similarity",
        cka_retrained,
        lower_is_better=False,
        of="held-out samples",
        column="CKA, retrained",
        source=SOURCE,
    ),
)
