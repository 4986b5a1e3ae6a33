"""How far the features of forgotten samples are from those of other samples with the same target, as a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BANDWIDTHS = (0.25, 1.0, 4.0)  # times the median squared distance of two samples


def conditional_mmd(
    features: Tensor, target: Tensor, forgotten: Tensor, *, bandwidths: Sequence[float] = BANDWIDTHS
) -> Tensor:
    """Squared maximum mean discrepancy between forgotten and other samples, class by class of what they are to be.

    ``sum_c pi_c || sum_i a_ic phi(x_i) - sum_j b_jc phi(x_j) ||^2``, where phi is that of a Gaussian kernel, and the weights
    ``a_ic ~ f_i p_ic`` and ``b_jc ~ (1 - f_j) p_jc`` add up to 1 over the samples: f says how far a sample is a forgotten one, p
    what it is to be. It is 0 where, within each class that takes the forgotten one's place, forgotten samples have the features
    of others, so that no reader tells them apart. ``pi_c`` is the harmonic mean of both sides' numbers of samples in c, over that
    of all classes: a class that one side lacks says nothing.

    Source: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), eq. 5, the biased estimate; its weights by class are those of
    Zhu et al., "Deep Subdomain Adaptation Network" (IEEE TNNLS 2021, arXiv 2106.09388), eq. 6 and 8.

    Args:
        features: ``(n, d)`` of a student, floating point; the gradient flows here.
        target: ``(n, C)``, probabilities of what each sample is to be: the teacher's, without the forgotten classes.
        forgotten: ``(n,)`` in [0, 1]: 1 for a forgotten sample, 0 for another.
        bandwidths: Of the kernels, whose mean is taken: factors of the median squared distance (no gradient flows there).

    Returns:
        0-d float32 (float64 for float64 features), at least 0 but for rounding. 0, with a gradient, where one side is empty.

    Raises:
        ValueError: Sizes that do not go together.
    """
    if features.ndim != 2 or target.ndim != 2 or not len(features) == len(target) == len(forgotten):
        raise ValueError(
            f"features (n, d), target (n, C) and forgotten (n,) expected, got {tuple(features.shape)}, {tuple(target.shape)} and "
            f"{tuple(forgotten.shape)}"
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        x, p, f = features.to(dtype), target.detach().to(dtype), forgotten.detach().to(dtype).unsqueeze(1)
        own, other = f * p, (1 - f) * p
        counts = own.sum(0), other.sum(0)
        share = counts[0] * counts[1] / (counts[0] + counts[1]).clamp_min(1e-12)
        if len(x) < 2 or float(share.sum()) < 1e-6:
            return x.sum() * 0.0
        share = share / share.sum()
        difference = own / counts[0].clamp_min(1e-12) - other / counts[1].clamp_min(1e-12)
        squares = (x * x).sum(1)
        distance = (squares.unsqueeze(1) + squares - 2 * x @ x.T).clamp_min(0)
        apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        median = distance.detach()[apart].median().clamp_min(1e-12)
        kernel = torch.stack([torch.exp(-distance / (width * median)) for width in bandwidths]).mean(0)
        return ((difference * (kernel @ difference)).sum(0) * share).sum()
