"""Receiver operating characteristic of scores of positive samples ``(n,)`` and negative samples ``(m,)``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import require
from ..evaluation.intervals import Interval
from .attack import bootstrap

Scores = NDArray[np.float64]


def roc_area(positive: Scores, negative: Scores) -> float:
    """Compute the AUC, 0 to 1; ties count half."""
    require("scipy", "audit")
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def rate_at(positive: Scores, negative: Scores, most_false: float) -> float:
    """Compute the true positive rate at a false positive rate of at most ``most_false``; both 0 to 1."""
    allowed = int(np.floor(most_false * len(negative) + 1e-9))
    ordered = np.sort(negative)[::-1]
    if allowed >= len(negative):
        return 1.0
    return float((positive > ordered[allowed]).mean())


def threshold_hits(positive: Scores, negative: Scores) -> tuple[Scores, Scores]:
    """Classify each half of the samples by the best threshold of the other half; return 1 (right) or 0, ``(n,)`` and ``(m,)``.

    :func:`balanced_mean` of both is the balanced accuracy.
    """
    generator = np.random.default_rng(0)
    halves = [np.array_split(generator.permutation(len(scores)), 2) for scores in (positive, negative)]
    hits = np.zeros(len(positive)), np.zeros(len(negative))
    for chosen in (0, 1):
        above, below = positive[halves[0][chosen]], negative[halves[1][chosen]]
        thresholds = np.unique(np.concatenate([above, below]))
        best = max(thresholds, key=lambda t: (above >= t).mean() + (below < t).mean())
        hits[0][halves[0][1 - chosen]] = positive[halves[0][1 - chosen]] >= best
        hits[1][halves[1][1 - chosen]] = negative[halves[1][1 - chosen]] < best
    return hits


def balanced_mean(positive: Scores, negative: Scores) -> float:
    """Average the two means."""
    return float((positive.mean() + negative.mean()) / 2)


def interval_of(statistic: Callable[[Scores, Scores], float], positive: Scores, negative: Scores) -> Interval | None:
    """Compute the bootstrap interval of a statistic in percent, resampling positive and negative samples separately."""
    generator = np.random.default_rng(1)

    def resampled(indices: NDArray[np.int64]) -> float:
        return 100 * statistic(positive[indices], negative[generator.integers(0, len(negative), len(negative))])

    return bootstrap(resampled, len(positive), 200)
