"""Membership inside the class: are the forgotten class's training samples told from its held-out ones, under one transform?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ...evaluation.metric import Measured, Row
from ...evaluation.predictions import Predictions
from ..attack import Attack, Found, NotMeasured, given, members
from ..roc import interval_of, mean_share, rate_at, roc_area, told_apart
from .outputs import entropy

LEAST = 20  # samples of each kind
Scores = NDArray[np.float64]


def certainty(found: Predictions) -> Scores:
    """Minus the entropy of the probabilities, ``(N,)``: high where the model is sure, whatever of."""
    return -entropy(found.logits).numpy()


def label_score(found: Predictions) -> Scores:
    """``log p / (1 - p)`` of the label's probability, ``(N,)`` (Carlini et al., S&P 2022, arXiv 2112.03570, eq. 5).

    Raises:
        NotMeasured: It is minus infinity: the logit is cut off.
    """
    logits = found.logits.double()
    own = logits.gather(1, found.labels[:, None])
    others = logits.masked_fill(torch.nn.functional.one_hot(found.labels, logits.shape[1]).bool(), -torch.inf)
    score = (own[:, 0] - others.logsumexp(1)).numpy()
    if not np.isfinite(score).all():
        raise NotMeasured("the label's logit is minus infinity")
    return score


def _scores(score: Callable[[Predictions], Scores], row: Row) -> tuple[Scores, Scores]:
    """Of training and of held-out samples of the forgotten classes."""
    found = []
    for split in ("forget", "test"):
        shown = torch.from_numpy(members(row, split))
        whole = given(row, split)
        found.append(score(Predictions(whole.logits[shown], None, whole.labels[shown])))
    few = min(map(len, found))
    if few < LEAST:
        raise NotMeasured(f"there are {few} samples of a kind, and fewer than {LEAST} say nothing")
    return found[0], found[1]


def area(score: Callable[[Predictions], Scores], row: Row) -> Measured:
    """AUC in percent; 50 is a guess."""
    inside, outside = _scores(score, row)
    found = round(100 * roc_area(inside, outside), 2)
    return Found(found, len(inside) + len(outside), interval_of(roc_area, inside, outside))


def balanced(row: Row) -> Measured:
    """Balanced accuracy in percent; 50 is a guess."""
    inside, outside = told_apart(*_scores(certainty, row))
    return Found(
        round(100 * mean_share(inside, outside), 2),
        len(inside) + len(outside),
        interval_of(mean_share, inside, outside),
    )


def rate(most_false: float, row: Row) -> Measured:
    """True positive rate in percent where at most that share of the held-out samples is taken for a training sample."""
    inside, outside = _scores(certainty, row)
    least = round(1 / most_false)
    if len(outside) < least:
        raise NotMeasured(
            f"{100 * most_false:g}% of {len(outside)} held-out samples is less than one; {least} of the classes are needed"
        )
    statistic = partial(rate_at, most_false=most_false)
    found = round(100 * statistic(inside, outside), 2)
    return Found(found, len(inside) + len(outside), interval_of(statistic, inside, outside))


def _attack(name: str, title: str, compute: object, column: str, guess: float, level: str = "full") -> Attack:
    return Attack(
        name,
        f"training samples of the forgotten classes told from held-out ones: {title}",
        "percent",
        compute,  # type: ignore[arg-type]
        of="training and held-out samples",
        column=column,
        level=level,
        chance=lambda row: guess,
        source="arXiv 2112.03570",
    )


ATTACKS = (
    _attack(
        "membership_auc", "AUC of the outputs' certainty", partial(area, certainty), "membership AUC", 50.0, "quick"
    ),
    _attack("membership_label_auc", "AUC of the label's score", partial(area, label_score), "membership, label", 50.0),
    _attack("membership_balanced", "balanced accuracy", balanced, "membership, balanced", 50.0),
    _attack("membership_tpr_1", "TPR at 1% FPR", partial(rate, 0.01), "membership TPR@1%", 1.0),
    _attack("membership_tpr_01", "TPR at 0.1% FPR", partial(rate, 0.001), "membership TPR@0.1%", 0.1),
)
