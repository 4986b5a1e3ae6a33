"""Loss on the distance of samples' features from the teacher's."""

import torch
from torch import Tensor

from ._common import accumulation_dtype


def feature_distillation(features: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Compute the mean squared distance from the teacher's features, divided by the variance of these features.

    ``sum_i w_i ||f_i - t_i||^2 / (sum_i w_i  mean_i ||t_i - mean t||^2)``. 1 is about the distance of two samples.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015, arXiv 1412.6550), eq. 3, without a regressor: teacher
    and student are one architecture.

    The gradient flows to ``features`` ``(n, d)`` of the student, floating point; those of the ``teacher`` are of the same
    samples, each with a ``weight`` ``(n,)``, at least 0. Return 0-d float32 (float64 for float64 features): 0, with a gradient,
    if all weights are 0. Raise ValueError if sizes do not match.
    """
    if features.ndim != 2 or features.shape != teacher.shape or weight.shape != features.shape[:1]:
        raise ValueError(
            "features (n, d), the teacher's (n, d) and weight (n,) expected, got "
            + ", ".join(str(tuple(part.shape)) for part in (features, teacher, weight))
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = accumulation_dtype(features)
        teacher, weight = teacher.detach().to(dtype), weight.detach().to(dtype)
        distance = (features.to(dtype) - teacher).square().sum(1)
        variance = (teacher - teacher.mean(0)).square().sum(1).mean()
        return (weight * distance).sum() / (weight.sum() * variance).clamp_min(1e-12)
