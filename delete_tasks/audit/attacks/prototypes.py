"""A handful of samples: nearest prototypes, and a forgotten row replaced by the samples' mean direction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ..attack import (
    Attack,
    NotMeasured,
    attacker_rows,
    chance_of_classes,
    context_of,
    features_of,
    given,
    members,
    share_of,
)
from ..probes import prototype_hits

SHOTS = (1, 5, 10)
ROW_SHOTS, ROW_DRAWS = 10, 20
ALPHAS = tuple(round(float(alpha), 4) for alpha in np.geomspace(0.1, 30, 16))  # of the largest row's norm
SOURCE = "arXiv 2506.01318"


def read_by_prototypes(shots: int, row: Row) -> Measured:
    """Percent of the held-out samples of the forgotten classes whose nearest prototype is their class's, over 20 draws."""
    features, labels = attacker_rows(row)
    classes, counts = np.unique(labels, return_counts=True)
    few = [row.names[i] for i, count in zip(classes, counts, strict=True) if count < shots]
    if few:
        raise NotMeasured(f"{shots} samples of each class are needed, and there are fewer of {', '.join(few[:5])}")
    test, shown = given(row, "test"), members(row, "test")
    return share_of(prototype_hits(features, labels, features_of(test)[shown], test.labels.numpy()[shown], shots))


def with_row(
    features: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    ids: Sequence[int],
    prototypes: NDArray[np.float32],
    alpha: float,
) -> NDArray[np.int64]:
    """What a last layer predicts, int64 ``(n,)``, when its rows of the forgotten classes are ``alpha`` times prototypes.

    Args:
        features: ``(n, d)``.
        weight: ``(C, d)``.
        bias: ``(C,)``; a replaced row gets the mean of the others'.
        ids: The forgotten classes.
        prototypes: ``(len(ids), d)``, of length 1.
        alpha: A factor.
    """
    weight, bias = weight.copy(), bias.copy()
    kept = [i for i in range(len(weight)) if i not in set(ids)]
    weight[list(ids)], bias[list(ids)] = alpha * prototypes, bias[kept].mean()
    return (features @ weight.T + bias).argmax(1)


def read_by_replaced_row(row: Row) -> Measured:
    """Percent of the held-out samples of the forgotten classes that the last layer predicts as their class once its rows are
    prototypes of 10 samples. ``alpha``, of the largest remaining row's norm, is the one that reads an attacker's own samples best
    (mean of forgotten and kept classes' accuracy)."""
    weight, bias = _linear_layer(context_of(row).head)
    features, labels = attacker_rows(row)
    test, shown = given(row, "test"), members(row, "test")
    kept = [i for i in range(len(weight)) if i not in set(row.ids)]
    norm = float(np.linalg.norm(weight[kept], axis=1).max())
    gone = np.isin(labels, list(row.ids))
    generator, hits, others, alphas = np.random.default_rng(0), np.zeros(int(shown.sum())), [], []
    asked, own = features_of(test), test.labels.numpy()
    rest = (own >= 0) & ~shown
    for _ in range(ROW_DRAWS):
        prototypes = np.stack([_prototype(features, labels, i, generator) for i in row.ids])

        def score(alpha: float, rows: NDArray[np.float32] = prototypes) -> float:
            right = with_row(features, weight, bias, row.ids, rows, alpha * norm) == labels
            return float(right[gone].mean() + right[~gone].mean())

        alpha = max(ALPHAS, key=score)
        predicted = with_row(asked, weight, bias, row.ids, prototypes, alpha * norm)
        hits += predicted[shown] == own[shown]
        alphas.append(alpha)
        others.append(float((predicted == own)[rest].mean()) if rest.any() else None)
    told = None if None in others else round(100 * float(np.mean(others)), 2)  # type: ignore[arg-type]
    details = {"alpha_median": float(np.median(alphas)), "shots": ROW_SHOTS, "other_classes_accuracy": told}
    return share_of(hits / ROW_DRAWS, details=details)


def _prototype(features: Any, labels: Any, label: int, generator: np.random.Generator) -> NDArray[np.float32]:
    own = np.flatnonzero(labels == label)
    if len(own) < ROW_SHOTS:
        raise NotMeasured(f"{ROW_SHOTS} samples of each forgotten class are needed, and there are {len(own)} of one")
    mean = features[generator.choice(own, ROW_SHOTS, replace=False)].mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _linear_layer(head: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight ``(C, d)`` and bias ``(C,)``."""
    if head is None or getattr(head, "weight", None) is None or head.weight.ndim != 2:
        raise NotMeasured("the logits are not just what a linear last layer makes of the features")
    weight = head.weight.detach().float().cpu().numpy()
    bias = getattr(head, "bias", None)
    return weight, np.zeros(len(weight), np.float32) if bias is None else bias.detach().float().cpu().numpy()


ATTACKS = (
    *(
        Attack(
            f"prototypes_{shots}",
            f"forgotten classes as the nearest prototype of {shots} sample{'s' if shots > 1 else ''}",
            "percent",
            partial(read_by_prototypes, shots),
            of="held-out samples",
            column=f"{shots}-shot prototypes",
            of_features=True,
            level="quick" if shots == 5 else "full",
            reads=True,
            source=SOURCE,
            chance=chance_of_classes,
        )
        for shots in SHOTS
    ),
    Attack(
        "replaced_row",
        f"forgotten classes predicted once their rows are prototypes of {ROW_SHOTS} samples",
        "percent",
        read_by_replaced_row,
        of="held-out samples",
        column="row replaced",
        level="full",
        reads=True,
        source=SOURCE,
        chance=lambda row: round(100 / len(row.names), 2),
    ),
)
