"""SIG: a sine across the columns."""

import numpy as np

from delete_tasks.request.ranges import number

from .base import STRONGEST, Trigger, register_trigger, to_levels


@register_trigger("sig")
class Sinusoid(Trigger):
    """A sine across the columns: x + delta sin(2 pi j f / W) in column j, with ``delta`` in levels and ``f`` periods across the
    image (Barni et al., "SIG", arXiv 1902.11237); made for clean-label poisoning."""

    def __init__(self, delta: float = 20.0, f: float = 6.0) -> None:
        super().__init__()
        self.delta = number("delta", delta, 0, 255, above=True)
        self.f = number("f", f, 0, STRONGEST, above=True)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        width = image.shape[1]
        wave = self.delta * np.sin(2 * np.pi * np.arange(width) * self.f / width)
        return to_levels(image + wave[None, :, None])
