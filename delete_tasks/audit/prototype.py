"""What a handful of labelled examples still reads out of features: nearest class prototypes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError


def prototype_accuracy(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    test_features: NDArray[np.float32],
    test_labels: NDArray[np.int64],
    shots: int = 5,
    draws: int = 20,
    seed: int = 0,
) -> dict[int, float]:
    """Accuracy in percent of each class when a feature goes to the class with the nearest prototype.

    A prototype is the mean of ``shots`` random examples of its class (Snell et al., "Prototypical Networks for Few-shot
    Learning", NeurIPS 2017); features are scaled to length 1 first, so that nearest means by angle. The figure is the mean
    over ``draws`` draws.

    Args:
        features: ``(n, d)`` to draw from.
        labels: ``(n,)``.
        test_features: ``(m, d)``.
        test_labels: ``(m,)``; classes without a prototype are left out.
        shots: Examples of each class.
        draws: Repetitions.
        seed: Of the draws.

    Raises:
        RequestError: A class has fewer than ``shots`` examples.
    """
    classes = np.unique(labels)
    counts = {int(label): int((labels == label).sum()) for label in classes}
    short = [f"{label} has {count}" for label, count in counts.items() if count < shots]
    if short:
        raise RequestError(
            f"prototypes of {shots} shots need that many examples of each class; class {', '.join(short[:5])}"
        )
    shown = np.isin(test_labels, classes)
    hits = prototype_hits(features, labels, test_features[shown], test_labels[shown], shots, draws, seed)
    own = test_labels[shown]
    return {label: round(100 * float(hits[own == label].mean()), 2) for label in counts if (own == label).any()}


def prototype_hits(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    test_features: NDArray[np.float32],
    test_labels: NDArray[np.int64],
    shots: int = 5,
    draws: int = 20,
    seed: int = 0,
) -> NDArray[np.float64]:
    """In what share of the draws each test feature's nearest prototype is its own class's, float64 ``(m,)``; arguments as of
    :func:`prototype_accuracy`, which refuses what has no such prototypes."""
    classes = np.unique(labels)
    generator = np.random.default_rng(seed)
    known, test = _unit(features), _unit(test_features)
    hits = np.zeros(len(test_labels))
    for _ in range(draws):
        chosen = [generator.choice(np.flatnonzero(labels == label), shots, replace=False) for label in classes]
        prototypes = _unit(np.stack([known[rows].mean(0) for rows in chosen]))
        hits += classes[(test @ prototypes.T).argmax(1)] == test_labels
    return hits / draws


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
