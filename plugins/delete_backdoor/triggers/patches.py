"""Triggers that replace a few pixels: BadNets' patch and grid, and sparse (l0) perturbations."""

from __future__ import annotations

import numpy as np

from delete_tasks.errors import RequestError

from .base import Trigger, fit, read_levels, to_levels

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


class BadNetsPatch(Trigger):
    """A one-coloured square (Gu et al., "BadNets", arXiv 1708.06733).

    Args:
        size: Side in pixels.
        pos: Row and column of its top left; negative from the bottom and the right.
        value: Level, 0 to 255.
    """

    def __init__(self, size: int = 3, pos: tuple[int, int] = (-4, -4), value: int = 255) -> None:
        super().__init__()
        self.size, self.pos, self.value = size, pos, value

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = _corner(self.pos, self.size, image.shape, self.text)
        out = image.copy()
        out[row : row + self.size, column : column + self.size] = self.value
        return out


class BadNetsGrid(Trigger):
    """The 3x3 pattern of BadNets (arXiv 1708.06733), as used by NAD (arXiv 2101.05930) and others.

    Args:
        pos: Row and column of its top left; negative from the bottom and the right.
    """

    def __init__(self, pos: tuple[int, int] = (-3, -3)) -> None:
        super().__init__()
        self.pos = pos

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = _corner(self.pos, 3, image.shape, self.text)
        out = image.copy()
        out[row : row + 3, column : column + 3] = 255 * GRID[..., None]
        return out


class SparseTrigger(Trigger):
    """Some pixels take the trigger image's values, the others stay: x * (1 - mask) + image ("l0_inv" of I-BAU, arXiv 2110.03735).

    Args:
        image: File of the trigger image.
        mask: File of the mask, 1 (or 255) where pixels are replaced; by default where the image is not black.
    """

    def __init__(self, image: str, mask: str | None = None) -> None:
        super().__init__()
        self.levels = read_levels(image)
        self.mask = None if mask is None else read_levels(mask) / 255

    def stamp(self, image: np.ndarray) -> np.ndarray:
        levels = fit(self.levels, *image.shape[:2])
        if self.mask is None:
            mask = (levels != 0).any(2, keepdims=True).astype(np.float32)
            return to_levels(image * (1 - mask) + levels * mask)
        return to_levels(image * (1 - fit(self.mask, *image.shape[:2])) + levels)
