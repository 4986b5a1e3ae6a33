"""BadNets' grid."""

import numpy as np

from ..grammar import Place
from .base import Trigger, corner, place
from .registry import register_trigger

# Gu et al.'s pattern: bright on a dark ground, its corner at the bottom right.
GRID = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.uint8)


@register_trigger("grid")
class BadNetsGrid(Trigger):
    """BadNets' 3x3 pattern; pos as of badnets.

    arXiv 1708.06733; used by NAD (arXiv 2101.05930) and others.

    Args:
        pos: Row and column of its top left; negative from the bottom and the right.

    Raises:
        RequestError: A place that is none.
    """

    def __init__(self, pos: Place = (-3, -3)) -> None:
        super().__init__()
        self.pos = place(pos)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = corner(self.pos, 3, image.shape, self.text)
        out = image.copy()
        out[row : row + 3, column : column + 3] = 255 * GRID[..., None]
        return out
