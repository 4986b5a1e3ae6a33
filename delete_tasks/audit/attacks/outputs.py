"""Attacks on the outputs: probability of the forgotten classes, and information left in their logits."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...evaluation.functional import Interval, prediction_shares
from ...evaluation.metric import Measured, Row
from ..attack import Attack, NotMeasured, bootstrap, context_of, mean_of, members, predictions_of

Scores = NDArray[np.float64]


def entropy(logits: Tensor) -> Tensor:
    """Compute ``-sum p log p`` of each sample's probabilities, in nats: float64 ``(N,)``."""
    return torch.special.entr(logits.double().softmax(1)).sum(1)


def js_distance(p: Tensor, q: Tensor) -> Tensor:
    """Compute the Jensen-Shannon distance of probabilities ``(N, C)``, 0 to 1, to base 2: float64 ``(N,)``."""
    p, q = p.double(), q.double()
    middle = (p + q) / 2
    nats = torch.special.entr(middle).sum(1) - (torch.special.entr(p).sum(1) + torch.special.entr(q).sum(1)) / 2
    return (nats / np.log(2)).clamp(0, 1).sqrt()


def ranks(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Rank the highest logit of some classes among all others' (1: the largest; ties count half): float64 ``(N,)``."""
    highest, others = _split(logits, ids)
    return 1 + (others > highest[:, None]).sum(1).double() + (others == highest[:, None]).sum(1) / 2


def _split(logits: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the highest logit ``(N,)`` of some classes, and the logits of all others."""
    others = [i for i in range(logits.shape[1]) if i not in set(ids)]
    return logits[:, list(ids)].max(1).values, logits[:, others]


def roc_area(positive: Scores, negative: Scores) -> float:
    """Compute the AUC, 0 to 1, of scores of positive ``(n,)`` and negative ``(m,)`` samples; ties count half."""
    ordered = np.sort(negative)
    below = (np.searchsorted(ordered, positive, side).sum() for side in ("left", "right"))
    return float(sum(below) / (2 * len(positive) * len(negative)))


def rate_at(positive: Scores, negative: Scores, most_false: float) -> float:
    """Compute the true positive rate at a false positive rate of at most ``most_false``; both 0 to 1."""
    allowed = int(np.floor(most_false * len(negative) + 1e-9))  # fewer than all, as the rate is below 1
    return float((positive > np.sort(negative)[::-1][allowed]).mean())


def threshold_hits(positive: Scores, negative: Scores) -> tuple[Scores, Scores]:
    """Classify each half of the samples by the best threshold of the other half; return 1 (right) or 0, ``(n,)`` and ``(m,)``."""
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
    generator, count, size = np.random.default_rng(1), len(positive), len(negative)
    return bootstrap(lambda at: 100 * statistic(positive[at], negative[generator.integers(0, size, size)]), count, 200)


def _forgotten_logits(row: Row) -> Tensor:
    return predictions_of(row, "test").logits[torch.from_numpy(members(row, "test"))]


def forgotten_mass(row: Row) -> Measured:
    """Measure the mean probability in percent of the forgotten classes on their held-out samples, with the classes predicted."""
    logits = _forgotten_logits(row)
    mass = 100 * logits.double().softmax(1)[:, list(row.ids)].sum(1)
    shares = prediction_shares(torch.bincount(logits.argmax(1), minlength=logits.shape[1]), row.names)
    return mean_of(mass.numpy(), details={"predicted_as": dict(list(shares.items())[:10])})


def output_entropy(row: Row) -> Measured:
    """Measure the mean entropy of the probabilities on held-out samples of the forgotten classes."""
    return mean_of(entropy(_forgotten_logits(row)).numpy())


def distance_to_retrained(row: Row) -> Measured:
    """Measure the mean Jensen-Shannon distance to retrained models' outputs on held-out samples of the forgotten classes."""
    mask, probabilities = torch.from_numpy(members(row, "test")), _forgotten_logits(row).softmax(1)
    others = [data["test"] for data in context_of(row).retrained if data["test"] is not row.data["test"]]
    if not others:
        raise NotMeasured("no other retrained model is given")
    distances = [js_distance(probabilities, other.logits[mask].softmax(1)) for other in others]
    return mean_of(torch.stack(distances).mean(0).numpy())


def logit_rank(row: Row) -> Measured:
    """Measure the mean rank of the forgotten classes' logit on their held-out samples; 1 is the prediction."""
    return mean_of(ranks(_forgotten_logits(row), row.ids).numpy(), 2, details={"of": len(row.names)})


def logit_level(row: Row) -> Measured:
    """Measure the mean difference between the forgotten classes' logit and the largest other on their held-out samples."""
    highest, others = _split(_forgotten_logits(row), row.ids)
    level = highest - others.max(1).values
    if not bool(level.isfinite().all()):
        raise NotMeasured("the logit is minus infinity")
    return mean_of(level.numpy(), 3)


def logit_area(row: Row) -> Measured:
    """Measure the AUC in percent of the forgotten classes' logit, less the mean of the others, as a detector of their samples."""
    highest, others = _split(predictions_of(row, "test").logits.double(), row.ids)
    if not bool(highest.isfinite().all()):
        raise NotMeasured("the logit is minus infinity")
    score = (highest - others.clamp(min=-1e4).mean(1)).numpy()
    positive, negative = score[members(row, "test")], score[members(row, "test", "retain")]
    if float(np.ptp(score)) < 1e-5 * max(1.0, float(np.abs(score).max())):
        return Measured(50.0, len(positive), note="relative to the others' mean, the logit is the same for each sample")
    value = round(100 * roc_area(positive, negative), 2)
    return Measured(value, len(positive), interval_of(roc_area, positive, negative))


def _attack(name: str, title: str, unit: str, compute: object, **rest: object) -> Attack:
    options = {"of": "held-out samples", "column": name.replace("_", " "), **rest}
    return Attack(name, title, unit, compute, **options)  # type: ignore[arg-type]


_distance = "Jensen-Shannon distance to the retrained model's probabilities on forgotten samples"
_rank = "rank of the forgotten classes' logit on their samples"
_area = "the forgotten classes' logit as a detector of their samples (AUC)"
ATTACKS = (
    _attack("forgotten_mass", "probability of the forgotten classes on their samples", "percent", forgotten_mass),
    _attack("output_entropy", "entropy of probabilities on forgotten samples", "nats", output_entropy, directed=False),
    _attack("js_retrained", _distance, "distance", distance_to_retrained, column="JS to retrained"),
    _attack("logit_rank", _rank, "rank", logit_rank, lower_is_better=False),
    _attack("logit_level", "the forgotten classes' logit above the largest other", "nats", logit_level),
    _attack("logit_auc", _area, "percent", logit_area, column="logit AUC", chance=lambda row: 50.0),
)
