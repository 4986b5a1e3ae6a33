"""How well probabilities fit: negative log-likelihood, calibration error, and the factor that matches two models' logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of ``-log softmax(logits)[label]``, in nats.

    Args:
        logits: ``(N, C)``, floating point; -inf is a probability of 0.
        labels: int64 ``(N,)``, N at least 1.
    """
    return float(F.cross_entropy(logits.double(), labels))


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """``sum over bins of |bin| / N * |accuracy - mean confidence|``, in percent.

    Confidence is the largest probability; bins are ``bins`` equal parts of (0, 1], each with its upper end (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599, eq. 3).

    Args:
        logits: ``(N, C)``, floating point.
        labels: int64 ``(N,)``, N at least 1.
        bins: 15 in the paper.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = (predicted == labels).double() - confidence
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, place.cpu(), gap.cpu())
    return 100 * float(sums.abs().sum()) / len(labels)


def match_scale(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> float | None:
    """The factor a > 0 with the least ``KL(softmax(teacher) || softmax(a * student))``, in the weighted mean over samples.

    Only samples for which both predict the same class take part: where they differ, no scale is right, and the flattest the least
    wrong. This is temperature scaling (Guo et al., ICML 2017, sec. 4.2) with another model's probabilities in place of labels.

    Args:
        student: Logits ``(N, K)``.
        teacher: Logits ``(N, K)``.
        weight: ``(N,)``, not negative; None for ones.

    Returns:
        The factor, between 1e-3 and 1e3; None where no sample with a weight above 0 takes part, or the best lies outside.
    """
    weight = torch.ones(len(student)) if weight is None else weight
    agree = (student.argmax(1) == teacher.argmax(1)) & (weight > 0)
    s, p, w = student[agree].double(), teacher[agree].double().softmax(1), weight[agree].double()
    if not len(s):
        return None

    def slope(log_factor: float) -> float:  # of the loss in the factor: it is convex, so this rises
        return float((w * (((s * math.exp(log_factor)).softmax(1) - p) * s).sum(1)).sum())

    low, high = math.log(1e-3), math.log(1e3)
    if not slope(low) < 0 < slope(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(low)
