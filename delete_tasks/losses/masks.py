"""Masks and probabilities of the classes to forget."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .functional import masked_mass


def class_mask(ids: Sequence[int], num_classes: int, ndim: int, device: torch.device | str = "cpu") -> Tensor:
    """Make a boolean mask ``(1, C, 1, ...)`` with ``ndim`` dimensions that masks ``ids`` at every location."""
    mask = torch.zeros(num_classes, dtype=torch.bool, device=device)
    mask[list(ids)] = True
    return mask.view(1, num_classes, *(1,) * (ndim - 2))


def own_label_mask(labels: Tensor, ids: Sequence[int], num_classes: int) -> Tensor:
    """Mask each location's own label if it is one of ``ids``: booleans ``(N, C, *locations)`` from labels ``(N, *locations)``, of
    which values outside ``0 .. num_classes-1`` (void) mask nothing."""
    forgotten = class_mask(ids, num_classes, labels.ndim + 1, labels.device)
    classes = torch.arange(num_classes, device=labels.device).view(1, num_classes, *(1,) * (labels.ndim - 1))
    return (labels.unsqueeze(1) == classes) & forgotten


def is_forgotten(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Select the labels that are among ``ids``: booleans of the labels' shape."""
    return torch.isin(labels, torch.as_tensor(list(ids), device=labels.device, dtype=labels.dtype))


def forgotten_mass(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Sum the probabilities of the classes ``ids`` at each location: ``(N, *locations)`` from logits ``(N, C, *locations)``."""
    return masked_mass(logits, class_mask(ids, logits.shape[1], logits.ndim, logits.device))
