"""Triggers that replace a few pixels: BadNets' patch and grid, and sparse (l0) perturbations."""

from __future__ import annotations

import numpy as np

from delete_tasks.errors import RequestError
from delete_tasks.ranges import whole

from .base import Trigger, exact, read_levels, refuse_empty, to_levels

# Gu et al.'s pattern: bright on a dark ground, its corner at the bottom right.
GRID = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.uint8)


def _corner(pos: tuple[int, int], size: int, shape: tuple[int, ...], text: str) -> tuple[int, int]:
    """Row and column of the patch's top left, negative numbers counted from the far edge."""
    row, column = (value + side if value < 0 else value for value, side in zip(pos, shape, strict=False))
    if not (0 <= row <= shape[0] - size and 0 <= column <= shape[1] - size):
        raise RequestError(
            f"the trigger '{text}' is {size} pixels wide at {pos}, which does not fit into an image of {shape[0]}x{shape[1]} "
            "pixels; give another pos= or size="
        )
    return row, column


def _place(pos: tuple[int, int]) -> tuple[int, int]:
    row, column = (whole("pos", value, -(10**6), 10**6) for value in pos)
    return row, column


class BadNetsPatch(Trigger):
    """A one-coloured square (Gu et al., "BadNets", arXiv 1708.06733).

    Args:
        size: Side in pixels.
        pos: Row and column of its top left; negative from the bottom and the right.
        value: Level, 0 to 255.

    Raises:
        RequestError: A number out of range.
    """

    def __init__(self, size: int = 3, pos: tuple[int, int] = (-4, -4), value: int = 255) -> None:
        super().__init__()
        self.size = whole("size", size, 1, 10**4)
        self.value = whole("value", value, 0, 255)
        self.pos = _place(pos)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = _corner(self.pos, self.size, image.shape, self.text)
        out = image.copy()
        out[row : row + self.size, column : column + self.size] = self.value
        return out


class BadNetsGrid(Trigger):
    """The 3x3 pattern of BadNets (arXiv 1708.06733), as used by NAD (arXiv 2101.05930) and others.

    Args:
        pos: Row and column of its top left; negative from the bottom and the right.

    Raises:
        RequestError: A place that is none.
    """

    def __init__(self, pos: tuple[int, int] = (-3, -3)) -> None:
        super().__init__()
        self.pos = _place(pos)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = _corner(self.pos, 3, image.shape, self.text)
        out = image.copy()
        out[row : row + 3, column : column + 3] = 255 * GRID[..., None]
        return out


class SparseTrigger(Trigger):
    """Some pixels take the trigger image's values, the others stay: x * (1 - mask) + image ("l0_inv" of I-BAU, arXiv 2110.03735).

    Args:
        image: File of the trigger image, of the samples' size.
        mask: File of the mask, of that size, 1 (or 255) where pixels are replaced; by default where the image is not black.

    Raises:
        RequestError: Files that cannot be used, of different sizes, or that replace no pixel.
    """

    def __init__(self, image: str, mask: str | None = None) -> None:
        super().__init__()
        self.levels, self.image = read_levels(image), image
        self.mask = None if mask is None else read_levels(mask)
        if self.mask is not None and self.mask.max() > 1:
            self.mask = self.mask / 255
        if self.mask is not None and self.mask.shape[:2] != self.levels.shape[:2]:
            raise RequestError(
                f"the mask '{mask}' is {self.mask.shape[0]}x{self.mask.shape[1]} pixels and the image '{image}' "
                f"{self.levels.shape[0]}x{self.levels.shape[1]}; give both in the samples' size"
            )
        refuse_empty(self.levels if self.mask is None else self.mask, image if mask is None else str(mask))

    def stamp(self, image: np.ndarray) -> np.ndarray:
        levels = exact(self.levels, image.shape, self.image)
        if self.mask is None:
            mask = (levels != 0).any(2, keepdims=True).astype(np.float32)
            return to_levels(image * (1 - mask) + levels * mask)
        return to_levels(image * (1 - exact(self.mask, image.shape, self.image)) + levels)
