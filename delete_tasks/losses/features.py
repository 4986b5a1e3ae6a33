"""Losses on features: distances of forgotten samples from others and from the teacher, and what a linear readout explains."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._common import accumulation_dtype

BANDWIDTHS = (0.25, 1.0, 4.0)  # factors of the median squared distance of two samples
FEWEST_PAIRS = 0.1  # weight of pairs of different samples below which their mean is shrunk towards 0


def conditional_mmd(
    features: Tensor,
    target: Tensor,
    forgotten: Tensor,
    other: Tensor | None = None,
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    whiten: float | None = None,
) -> Tensor:
    """Compute the squared maximum mean discrepancy between forgotten and other samples, by target class.

    ``sum_c pi_c || E_a phi(x) - E_b phi(x) ||^2``, phi the feature map of a Gaussian kernel k, with weights ``a_ic ~ f_i p_ic``
    of samples on one side and ``b_ic ~ o_i p_ic`` on the other, each with sum 1; f and o are the degrees to which a sample is a
    forgotten or another one, and p is its target. Each mean of k is over pairs of different samples, e.g. ``sum_{i != j} a_i
    a_j k_ij / (1 - sum_i a_i^2)``: pairs of a sample with itself would bias the distance of few samples upwards. The
    expectation is 0 if, within each target class, forgotten samples have the same distribution of features as others, so that
    no probe can separate them. ``pi_c`` is the harmonic mean of both sides' numbers of samples in c, divided by its sum over all
    classes: a class that one side lacks has no weight.

    Source: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), eq. 3, the unbiased estimate; its weights by class are of
    Zhu et al., "Deep Subdomain Adaptation Network" (IEEE TNNLS 2021, arXiv 2106.09388), eq. 6 and 8.

    Args:
        features: ``(n, d)`` of a student, floating point; the gradient flows here.
        target: ``(n, C)``, target probabilities of each sample: the teacher's, without the forgotten classes.
        forgotten: ``(n,)`` in [0, 1]: 1 for a forgotten sample, 0 for another.
        other: ``(n,)`` in [0, 1]: 1 for a sample of the other side; `1 - forgotten` by default.
        whiten: None compares features as they are. A number s compares them by a Mahalanobis distance, whose covariance is that
            of all n samples plus s times its mean variance in each direction (no gradient flows there): a linear probe can use
            directions with little variance as well as others.
        bandwidths: Bandwidths of the kernels, which are averaged: factors of the median squared distance (no gradient flows
            there).

    Returns:
        0-d float32 (float64 for float64 features); below 0 by chance if the sides are alike. 0, with a gradient, if one side is
        empty.

    Raises:
        ValueError: Sizes do not match.
    """
    other = 1 - forgotten if other is None else other
    if features.ndim != 2 or target.ndim != 2 or not len(features) == len(target) == len(forgotten) == len(other):
        raise ValueError(
            "features (n, d), target (n, C), forgotten (n,) and other (n,) expected, got "
            + ", ".join(str(tuple(part.shape)) for part in (features, target, forgotten, other))
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = accumulation_dtype(features)
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
        pairs = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        median = distance.detach()[pairs].median().clamp_min(1e-12)
        kernel = torch.stack([torch.exp(-distance / (width * median)) for width in bandwidths]).mean(0) * pairs

        def mean(left: Tensor, right: Tensor) -> Tensor:
            weight = 1 - (left * right).sum(0)
            # If one sample has nearly all the weight of a side in a class, its pairs have almost no weight.
            return (left * (kernel @ right)).sum(0) / weight.clamp_min(FEWEST_PAIRS)

        return ((mean(a, a) + mean(b, b) - 2 * mean(a, b)) * share).sum()


def _whitened(x: Tensor, shrinkage: float) -> Tensor:
    """Whiten samples ``(n, d)``: all directions get about the same variance. NaN if the covariance is not finite."""
    with torch.no_grad():
        centred = x - x.mean(0)
        covariance = centred.T @ centred / max(len(x) - 1, 1)
        ridge = (shrinkage * covariance.diagonal().mean()).clamp_min(1e-12)
        root, failed = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(covariance)).to(x))
        root = torch.where(failed > 0, torch.nan, root)  # the run then stops at a loss that is not finite
    return torch.linalg.solve_triangular(root, x.T, upper=False).T


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


def linear_readout(
    features: Tensor,
    mass: Tensor,
    weight: Tensor | None = None,
    *,
    ridge: float = 1e-3,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Compute the share of the variance of ``mass`` that the best linear readout of ``features`` explains: R squared, 0 to 1.

    The readout is a ridge regression in closed form: an adversary trained to convergence at every step. As it is optimal, its
    change has no first-order effect, so the gradient is that of its residuals alone. R squared is 0 if the features' mean is
    the same with and without the class; no linear probe predicts the class then (Belrose et al., "LEACE", arXiv 2306.03819,
    theorem 3.1). The features' scale does not change it.

    Args:
        features: ``(N, d, *locations)`` of a student, floating point.
        mass: ``(N, *locations)``, the teacher's probability of the forgotten classes, in [0, 1].
        weight: ``(N, *locations)`` or None for all ones; 0 leaves a location out.
        ridge: Ridge penalty as a share of the features' mean variance, constant for the gradient.
        total: Function that sums a tensor over processes: the value is then that of all processes' locations together, and the
            gradient of a process that of its share.

    Returns:
        0-d float32 (float64 for float64 features). 0, with a gradient, if ``mass`` is the same everywhere or all weights are 0.

    Raises:
        ValueError: Sizes do not match.
    """
    if features.ndim < 2 or mass.shape != (features.shape[0], *features.shape[2:]):
        shapes = f"{tuple(features.shape)} and {tuple(mass.shape)}"
        raise ValueError(f"features (N, d, *locations) and mass (N, *locations) expected, got {shapes}")
    with torch.autocast(features.device.type, enabled=False):
        dtype = accumulation_dtype(features)
        x = features.to(dtype).movedim(1, -1).flatten(0, -2)
        y = mass.to(dtype).flatten()
        share = torch.ones_like(y) if weight is None else weight.to(dtype).flatten()
        add = total or (lambda value: value)
        with torch.no_grad():
            weighted = x * share.unsqueeze(1)
            moments = [share.sum(), share @ y, share @ (y * y), weighted.sum(0), weighted.T @ y, weighted.T @ x]
            # Double precision is cheap here, and enough for differences of squares.
            count, sum_y, sum_yy, sum_x, sum_xy, sum_xx = (add(value).double() for value in moments)
            count = count.clamp_min(1e-12)
            mean_x, mean_y = sum_x / count, sum_y / count
            spread = sum_yy / count - mean_y**2
        if float(spread) < 1e-8:
            return x.sum() * 0.0
        with torch.no_grad():
            covariance = sum_xx / count - torch.outer(mean_x, mean_x)
            floor = ridge * covariance.diagonal().mean().clamp_min(1e-12)
            covariance.diagonal().add_(floor)
            slope = torch.linalg.solve(covariance, sum_xy / count - mean_x * mean_y)
            offset = mean_y - slope @ mean_x
        unexplained = (share * (y - x @ slope.to(dtype) - offset.to(dtype)) ** 2).sum()
        unexplained = unexplained + (add(unexplained.detach().clone()) - unexplained.detach())
        return (1 - (unexplained / count + floor * slope @ slope) / spread).to(dtype)
