"""BadNets' grid."""

import numpy as np

from ..grammar import Place
from .badnets import BadNetsPatch
from .registry import register_trigger

# Gu et al.'s pattern: bright on a dark ground, its corner at the bottom right.
GRID = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.uint8)


@register_trigger("grid")
class BadNetsGrid(BadNetsPatch):
    """BadNets' 3x3 pattern (arXiv 1708.06733), used by NAD (arXiv 2101.05930) and others; ``pos`` as of :class:`BadNetsPatch`."""

    def __init__(self, pos: Place = (-3, -3)) -> None:
        super().__init__(len(GRID), pos)
        self.pattern = 255 * GRID[..., None]
