"""The factor that matches the scale of two models' logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
