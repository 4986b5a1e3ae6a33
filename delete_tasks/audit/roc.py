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


def told_apart(positive: Scores, negative: Scores) -> tuple[Scores, Scores]:
    """Which samples a threshold gets right that is the best of the other half of the samples: 1 or 0, ``(n,)`` and ``(m,)``.

    Their mean shares are the balanced accuracy, 0.5 for scores that tell nothing.
    """
    generator = np.random.default_rng(0)
    halves = [np.array_split(generator.permutation(len(scores)), 2) for scores in (positive, negative)]
    right = np.zeros(len(positive)), np.zeros(len(negative))
    for chosen in (0, 1):
        ours, others = positive[halves[0][chosen]], negative[halves[1][chosen]]
        thresholds = np.unique(np.concatenate([ours, others]))
        best = max(thresholds, key=lambda t: (ours >= t).mean() + (others < t).mean())
        right[0][halves[0][1 - chosen]] = positive[halves[0][1 - chosen]] >= best
        right[1][halves[1][1 - chosen]] = negative[halves[1][1 - chosen]] < best
    return right


def mean_share(positive: Scores, negative: Scores) -> float:
    """The mean of two kinds' means, 0 to 1."""
    return float((positive.mean() + negative.mean()) / 2)


def interval_of(statistic: Callable[[Scores, Scores], float], positive: Scores, negative: Scores) -> Interval | None:
    """Bootstrap interval, in percent, of a statistic of two kinds of samples, each resampled by itself."""
    generator = np.random.default_rng(1)

    def resampled(rows: NDArray[np.int64]) -> float:
        others = negative[generator.integers(0, len(negative), len(negative))]
        return 100 * statistic(positive[rows], others)

    return bootstrap(resampled, len(positive), 200)
