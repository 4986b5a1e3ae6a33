"""BadNets: a one-coloured patch, or a grid."""

import numpy as np

from delete_tasks.errors import RequestError
from delete_tasks.request.ranges import whole

from ..grammar import Place
from .base import Trigger, register_trigger

# Gu et al.'s pattern: bright on a dark ground, its corner at the bottom right.
GRID = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.uint8)


@register_trigger("badnets")
class BadNetsPatch(Trigger):
    """A square of ``size`` pixels and the level ``value``, 0 to 255 (Gu et al., "BadNets", arXiv 1708.06733). ``pos`` is the row
    and column of its top left, negative from the bottom and the right."""

    def __init__(self, size: int = 3, pos: Place = (-4, -4), value: int = 255) -> None:
        super().__init__()
        self.size = whole("size", size, 1, 10**4)
        self.row, self.column = (whole("pos", index, -(10**6), 10**6) for index in pos)
        self.pattern = np.array(whole("value", value, 0, 255), np.uint8)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        row, column = self.row + height * (self.row < 0), self.column + width * (self.column < 0)
        if not (0 <= row <= height - self.size and 0 <= column <= width - self.size):
            raise RequestError(
                f"the trigger '{self.text}' is {self.size} pixels wide at {(self.row, self.column)}, which does not fit into "
                f"an image of {height}x{width} pixels; give another pos= or size="
            )
        out = image.copy()
        out[row : row + self.size, column : column + self.size] = self.pattern
        return out


@register_trigger("grid")
class BadNetsGrid(BadNetsPatch):
    """BadNets' 3x3 pattern (arXiv 1708.06733), used by NAD (arXiv 2101.05930) and others; ``pos`` as of :class:`BadNetsPatch`."""

    def __init__(self, pos: Place = (-3, -3)) -> None:
        super().__init__(len(GRID), pos)
        self.pattern = 255 * GRID[..., None]
