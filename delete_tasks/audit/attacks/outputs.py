"""What the outputs tell: where the probability went, and what is left of the suppressed logit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...evaluation.functional import prediction_shares
from ...evaluation.metric import Measured, Row
from ..attack import Attack, Found, NotMeasured, context_of, given, mean_of, members
from ..roc import interval_of, roc_area


def entropy(logits: Tensor) -> Tensor:
    """``-sum p log p`` of each row's probabilities, in nats: float64 ``(N,)``."""
    p = logits.double().softmax(1)
    return torch.special.entr(p).sum(1)


def js_distance(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon distance of rows of probabilities: the root of the divergence to base 2, so from 0 to 1.

    Args:
        p, q: ``(N, C)``.

    Returns:
        float64 ``(N,)``.
    """
    p, q = p.double(), q.double()
    middle = (p + q) / 2
    nats = torch.special.entr(middle).sum(1) - (torch.special.entr(p).sum(1) + torch.special.entr(q).sum(1)) / 2
    return (nats / np.log(2)).clamp(0, 1).sqrt()


def ranks(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Rank of the highest of some classes' logits among all others', 1 is the largest of all: float64 ``(N,)``."""
    others = [i for i in range(logits.shape[1]) if i not in set(ids)]
    own = logits[:, list(ids)].max(1, keepdim=True).values
    return 1 + (logits[:, others] > own).sum(1).double() + (logits[:, others] == own).sum(1) / 2


def _forgotten_logits(row: Row) -> Tensor:
    test = given(row, "test")
    return test.logits[torch.from_numpy(members(row, "test"))]


def forgotten_mass(row: Row) -> Measured:
    """Mean probability of the forgotten classes on their held-out samples, in percent; and where the predictions went."""
    logits = _forgotten_logits(row)
    mass = 100 * logits.double().softmax(1)[:, list(row.ids)].sum(1)
    went = prediction_shares(torch.bincount(logits.argmax(1), minlength=logits.shape[1]), row.names)
    return mean_of(mass.numpy(), details={"predicted_as": dict(list(went.items())[:10])})


def output_entropy(row: Row) -> Measured:
    """Mean entropy of the probabilities on held-out samples of the forgotten classes."""
    return mean_of(entropy(_forgotten_logits(row)).numpy())


def distance_to_retrained(row: Row) -> Measured:
    """Mean Jensen-Shannon distance to the retrained models' probabilities on held-out samples of the forgotten classes."""
    test = given(row, "test")
    others = [data["test"] for data in context_of(row).retrained if data["test"] is not test]
    if not others:
        raise NotMeasured("no other retrained model is given")
    shown = torch.from_numpy(members(row, "test"))
    own = _forgotten_logits(row).softmax(1)
    return mean_of(torch.stack([js_distance(own, other.logits[shown].softmax(1)) for other in others]).mean(0).numpy())


def logit_rank(row: Row) -> Measured:
    """Mean rank of the forgotten classes' logit on their held-out samples; 1 is the prediction."""
    return mean_of(ranks(_forgotten_logits(row), row.ids).numpy(), 2, details={"of": len(row.names)})


def logit_level(row: Row) -> Measured:
    """By how much the forgotten classes' logit is above the largest other, in the mean on their held-out samples."""
    logits = _forgotten_logits(row)
    others = [i for i in range(logits.shape[1]) if i not in set(row.ids)]
    level = logits[:, list(row.ids)].max(1).values - logits[:, others].max(1).values
    if not bool(level.isfinite().all()):
        raise NotMeasured("the logit is minus infinity")
    return mean_of(level.numpy(), 3)


def logit_area(row: Row) -> Measured:
    """AUC, in percent, of the forgotten classes' logit, less the mean of the others, as a detector of their samples."""
    logits, shown = given(row, "test").logits.double(), members(row, "test")
    others = [i for i in range(logits.shape[1]) if i not in set(row.ids)]
    own = logits[:, list(row.ids)].max(1).values
    if not bool(own.isfinite().all()):
        raise NotMeasured("the logit is minus infinity")
    score = (own - logits[:, others].clamp(min=-1e4).mean(1)).numpy()
    kept = members(row, "test", "retain")
    positive, negative = score[shown], score[kept]
    spread = max(1.0, float(np.abs(score).max()))
    if float(np.ptp(score)) < 1e-5 * spread:
        return Found(50.0, len(positive), note="the logit is the same for every sample, next to the others' mean")

    value = round(100 * roc_area(positive, negative), 2)
    return Found(value, len(positive), interval_of(roc_area, positive, negative))


def _attack(name: str, title: str, unit: str, compute: object, column: str, **rest: object) -> Attack:
    return Attack(name, title, unit, compute, of="held-out samples", column=column, **rest)  # type: ignore[arg-type]


ATTACKS = (
    _attack(
        "forgotten_mass",
        "probability of the forgotten classes on their samples",
        "percent",
        forgotten_mass,
        "forgotten mass",
    ),
    _attack(
        "output_entropy", "entropy of the probabilities on forgotten samples", "nats", output_entropy, "output entropy"
    ),
    _attack(
        "js_retrained",
        "Jensen-Shannon distance to the retrained model's probabilities on forgotten samples",
        "distance",
        distance_to_retrained,
        "JS to retrained",
    ),
    _attack("logit_rank", "rank of the forgotten classes' logit on their samples", "rank", logit_rank, "logit rank"),
    _attack("logit_level", "the forgotten classes' logit above the largest other", "nats", logit_level, "logit level"),
    _attack(
        "logit_auc",
        "the forgotten classes' logit as a detector of their samples (AUC)",
        "percent",
        logit_area,
        "logit AUC",
        chance=lambda row: 50.0,
    ),
)
