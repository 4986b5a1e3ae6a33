"""Pure functions: metrics, rounded, so that a difference of two is that of the printed ones, and 95% intervals from counts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15  # of the calibration error
Interval = tuple[float, float]
Z = 1.959963984540054  # two-sided 95% of the normal distribution


@dataclass(frozen=True)
class ClassCounts:
    """Numbers of samples by class, int64 ``(C,)``: ``totals`` by label, ``hits`` among these, and all ``predicted`` as it."""

    hits: Tensor
    totals: Tensor
    predicted: Tensor


def percent(part: float | Tensor, whole: float | Tensor) -> float | None:
    """Compute ``100 * part / whole``, rounded; None if ``whole`` is 0."""
    return round(100 * float(part) / float(whole), 2) if whole else None


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int, rows: Sequence[int] | None = None) -> Tensor:
    """Count labels x predictions of C classes, int64 ``(len(rows), C)``, from both, int64 ``(N,)``, 0 to ``C - 1``. ``rows`` are
    the labels of the rows; None takes all, i.e. ``8 C^2`` bytes."""
    rows = range(classes) if rows is None else rows
    row_of = torch.full((classes,), -1)
    row_of[torch.as_tensor(list(rows), dtype=torch.long)] = torch.arange(len(rows))
    selected = row_of[labels] >= 0
    pairs = row_of[labels[selected]] * classes + predicted[selected]
    return torch.bincount(pairs, minlength=len(rows) * classes).reshape(len(rows), classes)


def accuracy(counts: ClassCounts, ids: Iterable[int]) -> tuple[float | None, int]:
    """Compute the accuracy in percent on the samples of some classes, and the number of these samples."""
    chosen = torch.as_tensor(list(ids), dtype=torch.long)
    total = int(counts.totals[chosen].sum())
    return percent(counts.hits[chosen].sum(), total), total


def per_class_accuracy(counts: ClassCounts) -> list[float | None]:
    """Compute the accuracy of each class in percent; None for a class without samples."""
    return [percent(hits, total) for hits, total in zip(counts.hits.tolist(), counts.totals.tolist(), strict=True)]


def drop(before: float | None, after: float | None, digits: int = 2) -> float | None:
    """Compute the loss in points; None if a figure was not measured."""
    return None if before is None or after is None else round(before - after, digits)


def class_drops(before: Sequence[float | None], after: Sequence[float | None], ids: Iterable[int]) -> dict[int, float]:
    """Compute the loss in points of each class in ``ids`` that was measured, from the accuracies of all classes."""
    losses = {index: drop(before[index], after[index]) for index in ids}
    return {index: loss for index, loss in losses.items() if loss is not None}


def rise(before: float | None, after: float | None, least: float) -> float | None:
    """Compute the increase in percent of ``before``, or of ``least`` if that is more; at most a million. None without both."""
    return None if before is None or after is None else round(min(100 * (after - before) / max(before, least), 1e6), 2)


def h_mean(forgotten_drop: float, remaining: float) -> float:
    """Compute the harmonic mean of the drop in forgotten accuracy (0 if it rose) and of the remaining accuracy, in percent.
    GS-LoRA, CVPR 2024, arXiv 2403.11530, used by DELETE."""
    lost = max(0.0, forgotten_drop)
    total = lost + remaining
    return round(2 * lost * remaining / total, 2) if total else 0.0


def attack_success_rate(labels: Tensor, predicted: Tensor, target: int) -> tuple[float | None, int]:
    """Compute ASR, the percentage of triggered samples of other classes that are predicted as the target, and their number."""
    others = labels != target
    return percent((predicted[others] == target).sum(), others.sum()), int(others.sum())


def robust_accuracy(labels: Tensor, predicted: Tensor, target: int) -> tuple[float | None, int]:
    """Compute RA, the percentage of triggered samples of other classes that are predicted as their class, and their number."""
    others = labels != target
    return percent((predicted[others] == labels[others]).sum(), others.sum()), int(others.sum())


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Compute the IoU of each class in percent, float64 ``(C,)``, from labels x predictions; NaN for one that never occurs."""
    hits = confusion.diagonal().double()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * torch.where(union > 0, hits / union, torch.nan)


def mean_iou(confusion: Tensor, ids: Iterable[int] | None = None, digits: int = 4) -> float | None:
    """Compute the mean IoU in percent of some classes, or all, over those that occur; None if none occurs."""
    ious = intersection_over_union(confusion)
    ious = ious if ids is None else ious[torch.as_tensor(list(ids), dtype=torch.long)]
    ious = ious[~ious.isnan()]
    return round(float(ious.mean()), digits) if len(ious) else None


def forgotten_iou(confusion: Tensor, ids: Sequence[int]) -> float | None:
    """Compute the mean IoU of those classes of ``ids`` that occur in labels; the IoU of 0 of another would count as forgotten."""
    return mean_iou(confusion, [i for i in ids if bool(confusion[i].any())])


def remaining_iou(confusion: Tensor, ids: Sequence[int]) -> float | None:
    """Compute the mean IoU of the classes other than ``ids``, over locations that are not labelled with one of ``ids``."""
    elsewhere = confusion.clone()
    elsewhere[list(ids)] = 0
    return mean_iou(elsewhere, [i for i in range(len(confusion)) if i not in set(ids)])


def prediction_shares(predicted: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Compute the percentage predicted as each class, by name, the most frequent first, from numbers, int64 ``(C,)``."""
    order = torch.argsort(-predicted, stable=True).tolist()
    return {names[i]: percent(predicted[i], predicted.sum()) for i in order if predicted[i] > 0}  # type: ignore[misc]


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Compute the mean ``-log softmax(logits)[label]`` in nats of logits ``(N, C)``, -inf allowed, and int64 labels."""
    return float(F.cross_entropy(logits.double(), labels))


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Compute ``sum over bins of |bin| / N * |accuracy - mean confidence|`` in percent, of logits ``(N, C)`` and labels, int64
    ``(N,)``, N at least 1. Confidence is the largest probability; bins are 15 equal parts of (0, 1], each with its upper end (Guo
    et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599, eq. 3)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    bin_of = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = (predicted == labels).double() - confidence
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bin_of.cpu(), gap.cpu())
    return 100 * float(sums.abs().sum()) / len(labels)


def wilson(percent: float | None, count: float | None) -> Interval | None:
    """Compute Wilson's score interval of a proportion, in percent; None without a proportion or samples (J. Am. Stat. Assoc. 22
    (1927) 209). It holds for few samples, and for 0% and 100%, where the normal interval has no width. ``count`` is the number of
    independent samples, which is fractional if samples depend on each other."""
    if percent is None or not count:
        return None
    share, weight = min(max(percent / 100, 0.0), 1.0), Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return round(100 * max(0.0, middle - half), 2), round(100 * min(1.0, middle + half), 2)


def paired(lost: float | None, gained: float | None, count: float | None) -> Interval | None:
    """Compute the interval of a loss of accuracy, in points, between two models on the same samples; None without samples. Wald's
    interval with half a sample added to each of the four cells (Agresti and Min, Stat. Med. 24 (2005) 729). Of ``count`` samples,
    only the first model predicts ``lost`` correctly, and only the second ``gained``; fractions count independent samples."""
    if lost is None or gained is None or not count:
        return None
    total = count + 2
    down, up = (lost + 0.5) / total, (gained + 0.5) / total
    half = Z * math.sqrt((down + up - (down - up) ** 2) / total)
    return round(100 * (down - up - half), 2), round(100 * (down - up + half), 2)


def newcombe(first: float, interval: Interval | None, second: float, other: Interval | None) -> Interval | None:
    """Compute the interval of the difference of two independent figures from each one's interval; None if one is missing. Each
    end adds the squares of the distances to the nearest or farthest ends (Newcombe, Stat. Med. 17 (1998) 873, method 10)."""
    if interval is None or other is None:
        return None
    (low, high), (least, most) = interval, other
    down, up = math.hypot(first - low, most - second), math.hypot(high - first, second - least)
    return first - second - down, first - second + up


def independent_pairs(photos: list[int]) -> float:
    """Compute a lower bound on the number of independent pairs to which all pairs of photos of one person are equivalent: a mean
    over all pairs of n photos varies no more than one over n // 2 pairs that share none (Hoeffding, J. Am. Stat. Assoc. 58 (1963)
    13, section 5). ``photos`` are the numbers of photos of each person, who have weights by their pairs."""
    pairs = {n: n * (n - 1) / 2 for n in photos}
    total = sum(pairs[n] for n in photos)
    return 1 / sum((pairs[n] / total) ** 2 / (n // 2) for n in photos if n >= 2) if total else 0.0
