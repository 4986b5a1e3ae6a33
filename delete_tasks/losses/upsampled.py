"""Bilinear resize and masked KL divergence in one: from logits at a head's resolution, without ever making those at full size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunked
from .autograd import MaskedKL
from .checks import check_inputs
from .functional import MaskedKLTerms
from .kernels import kernels_for, load
from .results import Options, Result


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
    """:func:`delete_tasks.losses.masked_kl_div` of logits resized bilinearly to ``size``, with the gradient of the small ones.

    The same value and gradient as ``masked_kl_div(interpolate(student, size, mode="bilinear"), ...)`` to 1e-5 in float32; on a
    CPU and with Triton on a GPU, no tensor of the full size times the classes is made.

    Args:
        student: Logits ``(N, C, h, w)``, floating point; the gradient flows here.
        teacher: Logits of the same shape, any floating dtype; no gradient flows here.
        size: ``(H, W)``, the size of the locations.
        mask: Boolean, broadcastable to ``(N, C, H, W)``; True takes a class out of the target at that location.
        align_corners: As of :func:`torch.nn.functional.interpolate`.
        weight: ``(N, H, W)`` or broadcastable to it, not negative; 0 leaves a location out.
        reduction: 'mean' or 'sum'.
        temperature: Divides both logits; the loss is multiplied by its square.
        teacher_temperature: Divides the teacher's logits alone.
        return_terms: Also return :class:`MaskedKLTerms`.

    Returns:
        The loss, 0-d, float32 (float64 for float64 logits); with ``return_terms`` a tuple of the loss and its terms.

    Raises:
        TypeError: A mask that is not boolean, logits that are not floating point.
        ValueError: As :func:`masked_kl_div`; logits that are not ``(N, C, h, w)``; reduction 'none', whose gradient needs
            every location's own.

    Example:
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
    options = Options(reduction, temperature, teacher_temperature, return_terms)
    mask, weight = check_inputs(student, teacher, mask, weight, options, (height, width))
    resize = partial(_forward, (height, width), align_corners)
    locations = student.shape[0] * height * width
    loss, *terms = MaskedKL.apply(student, teacher, mask, weight, options, resize, locations)
    return (loss, MaskedKLTerms(*terms)) if return_terms else loss


def _forward(size: tuple[int, int], align_corners: bool, student: Tensor, teacher: Tensor, *rest: Any) -> Result:
    if kernels_for(student, teacher) is not None:
        return load("upsampled").forward(size, align_corners, student, teacher, *rest)
    return _by_rows(size, align_corners, student, teacher, *rest)


class Axis:
    """How places along one axis lie between inputs: interval ``i`` of ``inputs + 1`` lies between inputs ``i - 1`` and ``i``
    (the first and the last beyond the outer ones).

    Attributes:
        first: int32 ``(inputs + 2,)``: places ``first[i] .. first[i + 1] - 1`` lie in interval ``i``.
        share: float32 ``(outputs,)``, of the later input in each place.
    """

    def __init__(self, inputs: int, outputs: int, align_corners: bool) -> None:
        places = torch.arange(outputs, dtype=torch.float32)
        if align_corners:
            at = places * ((inputs - 1) / (outputs - 1) if outputs > 1 else 0.0)
        else:
            at = (places + 0.5) * torch.tensor(inputs / outputs, dtype=torch.float32) - 0.5
        below = at.floor()
        self.share = at - below
        interval = (below.to(torch.int32) + 1).clamp_(0, inputs)
        self.first = torch.searchsorted(interval, torch.arange(inputs + 2, dtype=torch.int32)).to(torch.int32)


def _by_rows(
    size: tuple[int, int],
    align_corners: bool,
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    options: Options,
    factor: Tensor,
    wants_gradient: bool,
) -> Result:
    """Rows between two rows of logits at a time: these are widened first, and what lies between follows from them."""
    (samples, classes, height, _), device = student.shape, student.device
    accumulate = torch.float64 if student.dtype == torch.float64 else torch.float32
    sums = torch.zeros(4 if options.terms else 1, dtype=torch.float64, device=device)
    gradient = torch.zeros_like(student, dtype=accumulate) if wants_gradient else None
    axis = Axis(height, size[0], align_corners)
    first, share = axis.first.tolist(), axis.share.to(device, accumulate)
    factor = factor.to(accumulate)
    scales = (1 / options.temperature, 1 / options.temperature / options.teacher_temperature)
    widen = partial(F.interpolate, size=size[1], mode="linear", align_corners=align_corners)
    narrow = torch.ops.aten.upsample_linear1d_backward
    for n in range(samples):
        wide: dict[int, list[Tensor]] = {}  # student, teacher, and the gradient of this row of logits, widened
        for interval in range(height + 1):
            above, below = max(interval - 1, 0), min(interval, height - 1)
            for row in {above, below} - set(wide):
                pair = [
                    widen(logits[n : n + 1, :, row].to(accumulate) * scale)
                    for logits, scale in zip((student, teacher), scales, strict=True)
                ]
                wide[row] = [*pair, torch.zeros_like(pair[0])]
            for rows, columns in _blocks(first[interval], first[interval + 1], size[1], classes, device):
                lam = share[rows]
                s, t = (
                    torch.lerp(one[..., None, columns], two[..., None, columns], lam.view(-1, 1)).flatten(2)
                    for one, two in zip(wide[above][:2], wide[below][:2], strict=True)
                )
                m, w = mask[n : n + 1, :, rows, columns], None
                m = m[:, :, :1, :1].flatten(2) if m.stride()[2:] == (0, 0) else m.flatten(2)
                if weight is not None:
                    w = weight[n : n + 1, rows, columns].to(accumulate).flatten(1)
                step = torch.empty_like(s) if wants_gradient else None
                f = factor if w is None else w.unsqueeze(1) * factor
                chunked.chunk_loss(s, t, m, w, sums, f, step)
                if step is not None:
                    parts = torch.stack([1 - lam, lam]) @ step.unflatten(2, (len(lam), -1))
                    wide[above][2][..., columns] += parts[:, :, 0]
                    wide[below][2][..., columns] += parts[:, :, 1]
            for row in [row for row in wide if row < below or interval == height]:
                _, _, grown = wide.pop(row)
                if gradient is not None:
                    gradient[n, :, row] = narrow(grown, [size[1]], [1, classes, student.shape[3]], align_corners, None)[
                        0
                    ]
    return Result(sums, None, None if gradient is None else gradient.to(student.dtype))


def _blocks(begin: int, end: int, width: int, classes: int, device: torch.device) -> list[tuple[slice, slice]]:
    """Rows and columns of the blocks that rows ``begin .. end - 1`` are taken in, each of about a chunk's elements."""
    size = max(1, chunked.chunk_size(device) // classes)
    columns = min(width, size)
    rows = max(1, size // columns)
    return [
        (slice(y, min(y + rows, end)), slice(x, min(x + columns, width)))
        for y in range(begin, end, rows)
        for x in range(0, width, columns)
    ]
