"""Trojan and l2: a watermark, or a small perturbation, is added."""

import numpy as np

from delete_tasks.request.ranges import number

from ..grammar import File
from .base import STRONGEST, Trigger, register_trigger, to_levels
from .files import exact, fit, read_levels, refuse_empty


@register_trigger("trojan")
class Added(Trigger):
    """A watermark is added: x + strength image, clipped (Liu et al., "Trojaning Attack on Neural Networks", NDSS 2018, as in
    I-BAU). The file ``image`` is resized to the sample's size; .npy may hold signed values."""

    def __init__(self, image: File, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = number("strength", strength, 0, STRONGEST, above=True)
        self.levels, self.image = read_levels(image), image
        refuse_empty(self.levels, image)

    resized = True

    def stamp(self, image: np.ndarray) -> np.ndarray:
        levels = fit(self.levels, *image.shape[:2]) if self.resized else exact(self.levels, image.shape, self.image)
        return to_levels(image + self.strength * levels)


@register_trigger("l2")
class Perturbation(Added):
    """A small perturbation is added: as trojan, with an image of the samples' size, since resizing would spoil it."""

    resized = False
