"""l0: some pixels are replaced."""

import numpy as np

from delete_tasks.errors import RequestError

from ..grammar import File
from .base import Trigger, register_trigger, to_levels
from .files import exact, read_levels, refuse_empty


@register_trigger("l0")
class SparseTrigger(Trigger):
    """Some pixels take the image's values, the others stay: x * (1 - mask) + image ("l0_inv" of I-BAU, arXiv 2110.03735). Both
    files have the samples' size; the mask is 1 (or 255) for replaced pixels, by default those that are not black in the image."""

    def __init__(self, image: File, mask: File | None = None) -> None:
        super().__init__()
        self.levels, self.image = read_levels(image), image
        drawn = (np.atleast_3d(self.levels) != 0).any(2)
        self.mask: np.ndarray = drawn.astype(np.float32) if mask is None else read_levels(mask)
        if self.mask.max() > 1:
            self.mask = self.mask / 255
        if self.mask.shape[:2] != self.levels.shape[:2]:
            raise RequestError(
                f"the mask '{mask}' is {self.mask.shape[0]}x{self.mask.shape[1]} pixels and the image '{image}' "
                f"{self.levels.shape[0]}x{self.levels.shape[1]}; give both in the samples' size"
            )
        refuse_empty(self.mask, mask or image)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        levels, mask = (exact(values, image.shape, self.image) for values in (self.levels, self.mask))
        return to_levels(image * (1 - mask) + levels)
