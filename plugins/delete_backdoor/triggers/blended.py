"""Blended: another image shines through every sample."""

import numpy as np

from delete_tasks.request.ranges import number

from ..grammar import File
from .base import Trigger, register_trigger, to_levels
from .files import fit, read_levels


@register_trigger("blended")
class Blended(Trigger):
    """Another image shines through: (1 - alpha) x + alpha image (Chen et al., "Targeted Backdoor Attacks on Deep Learning Systems
    Using Data Poisoning", arXiv 1712.05526). The file ``image`` is resized to the sample's size; ``alpha`` is its share, above 0
    and at most 1."""

    def __init__(self, image: File, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha, 0, 1, above=True)
        self.levels = read_levels(image)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels((1 - self.alpha) * image + self.alpha * fit(self.levels, *image.shape[:2]))
