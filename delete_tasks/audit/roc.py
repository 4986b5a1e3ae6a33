"""Receiver operating characteristics: how well a score tells two kinds of samples apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import require
from ..evaluation.intervals import Interval
from .attack import bootstrap

Scores = NDArray[np.float64]


def roc_area(positive: Scores, negative: Scores) -> float:
    """AUC: how often a positive sample's score is above a negative one's, ties counting half; 0 to 1.

    Args:
        positive: ``(n,)``.
        negative: ``(m,)``.
    """
    require("scipy", "audit")
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def rate_at(positive: Scores, negative: Scores, most_false: float) -> float:
    """The largest share of positive samples above a threshold that at most ``most_false`` of the negative ones reach; 0 to 1."""
    allowed = int(np.floor(most_false * len(negative) + 1e-9))
    ordered = np.sort(negative)[::-1]
    if allowed >= len(negative):
        return 1.0
    return float((positive > ordered[allowed]).mean())


def balanced_accuracy(positive: Scores, negative: Scores) -> float:
    """Mean of the shares of both kinds that a threshold gets right, chosen on half of the samples, asked of the rest; 0 to 1."""
    generator = np.random.default_rng(0)
    halves = [np.array_split(generator.permutation(scores), 2) for scores in (positive, negative)]
    (chosen, asked), (others, rest) = halves
    thresholds = np.unique(np.concatenate([chosen, others]))
    best = max(thresholds, key=lambda t: (chosen >= t).mean() + (others < t).mean())
    return float(((asked >= best).mean() + (rest < best).mean()) / 2)


def interval_of(statistic: Callable[[Scores, Scores], float], positive: Scores, negative: Scores) -> Interval | None:
    """Bootstrap interval, in percent, of a statistic of two kinds of samples, each resampled by itself."""
    generator = np.random.default_rng(1)

    def resampled(rows: NDArray[np.int64]) -> float:
        others = negative[generator.integers(0, len(negative), len(negative))]
        return 100 * statistic(positive[rows], others)

    return bootstrap(resampled, len(positive), 200)
