"""Layout of several tensors' locations as three sizes and each tensor's strides over them, without a copy."""

from collections.abc import Sequence

from torch import Tensor

Strides = tuple[int, int, int]


def collapse(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[Strides, list[Strides]] | None:
    """Merge dimensions that lie one after the other in every tensor, until three or fewer are left.

    Args:
        sizes: Of the dimensions, batch and locations, without the classes.
        strides: Of each tensor over these dimensions.

    Returns:
        Three sizes and each tensor's three strides, filled up in front with sizes of 1; None where more than three are left.
    """
    kept: list[tuple[int, list[int]]] = []
    for size, *own in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if kept and all(before == now * size for before, now in zip(kept[-1][1], own, strict=True)):
            kept[-1] = (kept[-1][0] * size, own)
        else:
            kept.append((size, own))
    if len(kept) > 3:
        return None
    kept = [(1, [0] * len(strides))] * (3 - len(kept)) + kept
    a, b, c = kept
    return (a[0], b[0], c[0]), list(zip(a[1], b[1], c[1], strict=True))


def location_strides(tensor: Tensor) -> tuple[int, ...]:
    """Strides of ``(N, C, *locations)`` over batch and locations."""
    stride = tensor.stride()
    return (stride[0], *stride[2:])


def reach(tensor: Tensor) -> int:
    """Compute the greatest offset of an element."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
