"""Loss on the distance of samples' features from the teacher's."""

import torch
from torch import Tensor


def feature_distillation(features: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Compute the mean squared distance from the teacher's features, as a share of these features' variance.

    ``sum_i w_i ||f_i - t_i||^2 / (sum_i w_i  mean_i ||t_i - mean t||^2)``. 1 is about as far as one sample is from another.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015, arXiv 1412.6550), eq. 3, without a regressor: teacher
    and student are one architecture.

    Args:
        features: ``(n, d)`` of a student, floating point; the gradient flows here.
        teacher: ``(n, d)``, the teacher's of the same samples.
        weight: ``(n,)``, at least 0: how far a sample's features are to stay.

    Returns:
        0-d float32 (float64 for float64 features). 0, with a gradient, where no sample has a weight.

    Raises:
        ValueError: Sizes that do not go together.
    """
    if features.ndim != 2 or features.shape != teacher.shape or weight.shape != features.shape[:1]:
        raise ValueError(
            "features (n, d), the teacher's (n, d) and weight (n,) expected, got "
            + ", ".join(str(tuple(part.shape)) for part in (features, teacher, weight))
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        was, share = teacher.detach().to(dtype), weight.detach().to(dtype)
        moved = (features.to(dtype) - was).square().sum(1)
        variance = (was - was.mean(0)).square().sum(1).mean()
        return (share * moved).sum() / (share.sum() * variance).clamp_min(1e-12)
