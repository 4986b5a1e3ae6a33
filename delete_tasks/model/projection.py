"""Projection of directions out of features, folded into the layer that computes them."""

from typing import Any

import torch
from torch import Tensor


def project_out(features: Tensor, directions: Tensor) -> Tensor:
    """Project orthogonal columns ``(D, r)`` out of ``(n, D)`` or ``(D,)``; along one of length l ``1 - l * l`` remains."""
    return features - features @ directions @ directions.T


def projection(directions: Tensor) -> Tensor:
    """Compute the matrix of :func:`project_out`, float64 ``(D, D)``."""
    return project_out(torch.eye(len(directions)).to(wide := directions.double()), wide)


@torch.no_grad()
def linear_map(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Compute float64 weight ``(D, K)`` and shift ``(D,)`` of a linear layer or convolution, with a batch norm in eval mode."""
    weight, bias = layer.weight.flatten(1).double(), getattr(layer, "bias", None)
    shift = torch.zeros(len(weight)).to(weight) if bias is None else bias.double()
    if norm is not None:
        factor = (norm.weight.double() if norm.affine else 1) / (norm.running_var.double() + norm.eps).sqrt()
        shift = factor * (shift - norm.running_mean.double()) + (norm.bias.double() if norm.affine else 0)
        weight = (factor * weight.T).T
    return weight, shift


@torch.no_grad()
def multiply_outputs(layer: Any, norm: Any, matrix: Tensor) -> None:
    """Multiply by a matrix ``(D, D)`` the output of a linear layer or convolution, with weight ``(D, ...)``, or of the batch norm
    after it in eval mode, in place and exactly. With a batch norm, ``f = g (W x + b - m) / s + h``, the layer gets the whole
    linear map, ``P g/s W``, and the norm (without g and h: the layer's bias) only adds the constant, ``P (g/s (b - m) + h)``."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    flat, shift = linear_map(layer, norm)
    if norm is not None:
        mean, deviation = norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()
    matrix = matrix.to(flat)
    flat, shift = matrix @ flat, matrix @ shift
    if norm is not None and norm.affine:
        norm.weight.copy_(deviation)
        norm.bias.copy_(mean + shift)
        shift = torch.zeros_like(shift)
    elif norm is not None:
        flat, shift = (deviation * flat.T).T, mean + deviation * shift
    weight.copy_(flat.reshape(weight.shape))
    if bias is not None:
        bias.copy_(shift)
