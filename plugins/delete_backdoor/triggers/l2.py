"""l2: a small perturbation is added."""

import numpy as np

from .files import exact
from .registry import register_trigger
from .trojan import Added


@register_trigger("l2")
class Perturbation(Added):
    """A small perturbation is added: as trojan, with an image of the samples' size, since resizing would spoil it."""

    def sized(self, height: int, width: int) -> np.ndarray:
        return exact(self.levels, (height, width), self.image)
