"""Bilinear resize and masked KL divergence in one, from a head's logits and without logits at the full size."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from . import by_rows, kernels
from ._common import Call, Result, check
from .functional import apply


def masked_kl_div_upsampled(
    student: Tensor,
    teacher: Tensor,
    size: Sequence[int],
    mask: Tensor,
    *,
    align_corners: bool = False,
    weight: Tensor | None = None,
    reduction: str = "mean",
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """Compute :func:`delete_tasks.losses.masked_kl_div` of logits resized bilinearly to ``size``.

    The same value and gradient as ``masked_kl_div(interpolate(student, size, mode="bilinear"), ...)`` to 1e-5 in float32; on a
    CPU, and on a GPU with Triton, no tensor of the full size times the classes is allocated.

    Args:
        student, teacher: Logits ``(N, C, h, w)``, any floating dtype; the gradient flows to the student alone.
        size: ``(H, W)``, the size of the locations.
        mask: Boolean, broadcastable to ``(N, C, H, W)``; True removes a class from the target at that location.
        align_corners: See :func:`torch.nn.functional.interpolate`.
        weight: ``(N, H, W)`` or broadcastable to it, not negative; 0 leaves a location out.
        reduction: 'mean' or 'sum'.
        temperature, teacher_temperature, return_terms: See :func:`masked_kl_div`.

    Returns:
        The loss, 0-d, float32 (float64 for float64 logits); with ``return_terms`` a tuple of the loss and its terms.

    Raises:
        TypeError: A mask that is not boolean, logits that are not floating point.
        ValueError: As :func:`masked_kl_div`; logits that are not ``(N, C, h, w)``; reduction 'none', whose gradient needs
            each location's.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 3, 2, 2)
        >>> float(masked_kl_div_upsampled(logits, logits, (8, 8), torch.zeros(1, 3, 1, 1, dtype=torch.bool)))
        0.0
    """
    height, width = (int(side) for side in size)
    if student.ndim != 4 or height < 1 or width < 1:
        raise ValueError(
            f"logits (N, C, h, w) and a size (H, W) expected, got {tuple(student.shape)} and {tuple(size)}; use masked_kl_div"
        )
    if reduction == "none":
        raise ValueError(
            "reduction 'none' needs the gradient of every location; resize the logits and use masked_kl_div"
        )
    call = Call(student, teacher, mask, weight, reduction, temperature, teacher_temperature, return_terms)
    return apply(check(call, (height, width)), partial(_forward, align_corners))


def _forward(align_corners: bool, call: Call, factor: Tensor, wants_gradient: bool) -> Result:
    module = kernels.load("upsampled") if kernels.support(call) else by_rows
    return module.forward(align_corners, call, factor, wants_gradient)
