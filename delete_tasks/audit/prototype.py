"""What a handful of labelled examples still reads out of features: nearest class prototypes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def prototype_hits(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    test_features: NDArray[np.float32],
    test_labels: NDArray[np.int64],
    shots: int = 5,
    draws: int = 20,
    seed: int = 0,
) -> NDArray[np.float64]:
    """In what share of the draws each test feature's nearest prototype is its own class's.

    A prototype is the mean of ``shots`` random examples of its class (Snell et al., "Prototypical Networks for Few-shot
    Learning", NeurIPS 2017); features are scaled to length 1 first, so that nearest means by angle.

    Args:
        features: ``(n, d)`` to draw from.
        labels: ``(n,)``, of each class at least ``shots``.
        test_features: ``(m, d)``.
        test_labels: ``(m,)``.
        shots: Examples of each class.
        draws: Repetitions.
        seed: Of the draws.

    Returns:
        float64 ``(m,)``.
    """
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
