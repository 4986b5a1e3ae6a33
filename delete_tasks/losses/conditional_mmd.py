"""Loss on the distance of forgotten samples' features from those of other samples with the same target."""

from collections.abc import Sequence

import torch
from torch import Tensor

BANDWIDTHS = (0.25, 1.0, 4.0)  # times the median squared distance of two samples
FEWEST_PAIRS = 0.1  # weight of a side's pairs of different samples below which their mean is shrunk towards 0


def conditional_mmd(
    features: Tensor,
    target: Tensor,
    forgotten: Tensor,
    other: Tensor | None = None,
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    whiten: float | None = None,
) -> Tensor:
    """Squared maximum mean discrepancy between forgotten and other samples, class by class of what they are to be.

    ``sum_c pi_c || E_a phi(x) - E_b phi(x) ||^2``, where phi is that of a Gaussian kernel k, and samples weigh ``a_ic ~ f_i
    p_ic`` on the one side and ``b_ic ~ o_i p_ic`` on the other, each adding up to 1: f and o say how far a sample is a
    forgotten one, or another, p what it is to be. Each mean of k is one over pairs of two different samples, e.g. ``sum_{i !=
    j} a_i a_j k_ij / (1 - sum_i a_i^2)``: with the pairs of a sample with itself, a few samples would look apart because they
    are few, and be driven together for it. It is 0 in the mean where, within each class that takes the forgotten one's
    place, forgotten samples have the features of others, so that no reader tells them apart. ``pi_c`` is the harmonic mean of
    both sides' numbers of samples in c, over that of all classes: a class that one side lacks says nothing.

    Source: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), eq. 3, the unbiased estimate; its weights by class are of
    Zhu et al., "Deep Subdomain Adaptation Network" (IEEE TNNLS 2021, arXiv 2106.09388), eq. 6 and 8.

    Args:
        features: ``(n, d)`` of a student, floating point; the gradient flows here.
        target: ``(n, C)``, probabilities of what each sample is to be: the teacher's, without the forgotten classes.
        forgotten: ``(n,)`` in [0, 1]: 1 for a forgotten sample, 0 for another.
        other: ``(n,)`` in [0, 1]: how far a sample stands for the others; `1 - forgotten` by default.
        whiten: None compares features as they are. A number s compares them by a Mahalanobis distance, whose covariance is that
            of all n samples plus s times its mean variance in each direction (no gradient flows there): a linear reader weighs
            directions as it likes, so one in which all features hardly differ tells the sides apart as well as another.
        bandwidths: Of the kernels, whose mean is taken: factors of the median squared distance (no gradient flows there).

    Returns:
        0-d float32 (float64 for float64 features); below 0 by chance where the sides are alike. 0, with a gradient, where
        one side is empty.

    Raises:
        ValueError: Sizes that do not go together.
    """
    other = 1 - forgotten if other is None else other
    if features.ndim != 2 or target.ndim != 2 or not len(features) == len(target) == len(forgotten) == len(other):
        raise ValueError(
            "features (n, d), target (n, C), forgotten (n,) and other (n,) expected, got "
            + ", ".join(str(tuple(part.shape)) for part in (features, target, forgotten, other))
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        x, p = features.to(dtype), target.detach().to(dtype)
        x = x if whiten is None else _whitened(x, whiten)
        a, b = (part.detach().to(dtype).unsqueeze(1) * p for part in (forgotten, other))
        counts = a.sum(0), b.sum(0)
        share = counts[0] * counts[1] / (counts[0] + counts[1]).clamp_min(1e-12)
        if len(x) < 2 or float(share.sum()) < 1e-6:
            return x.sum() * 0.0
        share = share / share.sum()
        a, b = a / counts[0].clamp_min(1e-12), b / counts[1].clamp_min(1e-12)
        squares = (x * x).sum(1)
        distance = (squares.unsqueeze(1) + squares - 2 * x @ x.T).clamp_min(0)
        apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        median = distance.detach()[apart].median().clamp_min(1e-12)
        kernel = torch.stack([torch.exp(-distance / (width * median)) for width in bandwidths]).mean(0) * apart

        def mean(left: Tensor, right: Tensor) -> Tensor:
            pairs = 1 - (left * right).sum(0)
            # One sample that is nearly all of a side in a class has hardly a pair to say anything with.
            return (left * (kernel @ right)).sum(0) / pairs.clamp_min(FEWEST_PAIRS)

        return ((mean(a, a) + mean(b, b) - 2 * mean(a, b)) * share).sum()


def _whitened(x: Tensor, shrinkage: float) -> Tensor:
    """Samples ``(n, d)`` of which all directions have about the same variance."""
    with torch.no_grad():
        centred = x - x.mean(0)
        covariance = centred.T @ centred / max(len(x) - 1, 1)
        ridge = (shrinkage * covariance.diagonal().mean()).clamp_min(1e-12)
        root = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=x.dtype, device=x.device))
    return torch.linalg.solve_triangular(root, x.T, upper=False).T
