"""BadNets: a patch."""

import numpy as np

from delete_tasks.request.ranges import whole

from ..grammar import Place
from .base import Trigger, corner, place
from .registry import register_trigger


@register_trigger("badnets")
class BadNetsPatch(Trigger):
    """A one-coloured square (BadNets); pos is the row and column of its top left, negative from the far edge.

    Gu et al., "BadNets", arXiv 1708.06733.

    Args:
        size: Side in pixels.
        pos: Row and column of its top left; negative from the bottom and the right.
        value: Level, 0 to 255.

    Raises:
        RequestError: A number out of range.
    """

    def __init__(self, size: int = 3, pos: Place = (-4, -4), value: int = 255) -> None:
        super().__init__()
        self.size = whole("size", size, 1, 10**4)
        self.value = whole("value", value, 0, 255)
        self.pos = place(pos)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        row, column = corner(self.pos, self.size, image.shape, self.text)
        out = image.copy()
        out[row : row + self.size, column : column + self.size] = self.value
        return out
