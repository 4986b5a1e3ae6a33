"""Loss on the share of the forgotten classes' mass that a linear readout of features explains."""

from collections.abc import Callable

import torch
from torch import Tensor

from ._common import accumulation_dtype


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
        raise ValueError(
            f"features (N, d, *locations) and mass (N, *locations) expected, got {tuple(features.shape)} and "
            f"{tuple(mass.shape)}"
        )
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
