"""Triggers that change every pixel a little: Blended, SIG, Trojan watermark, l2 perturbations."""

from __future__ import annotations

import numpy as np

from delete_tasks.ranges import number

from .base import Trigger, exact, fit, read_levels, refuse_empty, to_levels

STRONGEST = 1000.0


class Blended(Trigger):
    """(1 - alpha) x + alpha image (Chen et al., "Targeted Backdoor Attacks ...", arXiv 1712.05526).

    Args:
        image: File of the image to blend in, resized to the sample's size.
        alpha: Its share, above 0 and at most 1.

    Raises:
        RequestError: A file that cannot be used, or a number out of range.
    """

    def __init__(self, image: str, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha, 0, 1, above=True)
        self.levels = read_levels(image)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels((1 - self.alpha) * image + self.alpha * fit(self.levels, *image.shape[:2]))


class Sinusoid(Trigger):
    """x + delta sin(2 pi j f / W) in column j (Barni et al., "SIG", arXiv 1902.11237); made for clean-label poisoning.

    Args:
        delta: Amplitude in levels.
        f: Periods across the image.

    Raises:
        RequestError: A number out of range.
    """

    def __init__(self, delta: float = 20.0, f: float = 6.0) -> None:
        super().__init__()
        self.delta = number("delta", delta, 0, 255, above=True)
        self.f = number("f", f, 0, STRONGEST, above=True)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        columns = np.arange(image.shape[1])
        wave = self.delta * np.sin(2 * np.pi * columns * self.f / image.shape[1])
        return to_levels(image + wave[None, :, None])


class Added(Trigger):
    """x + strength image, clipped: Trojan's watermark (Liu et al., NDSS 2018, as in I-BAU).

    Args:
        image: File of the trigger image, resized to the sample's size; .npy may hold signed values.
        strength: What it is multiplied by.

    Raises:
        RequestError: A file that cannot be used, an image that adds nothing, or a number out of range.
    """

    def __init__(self, image: str, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = number("strength", strength, 0, STRONGEST, above=True)
        self.levels, self.image = read_levels(image), image
        refuse_empty(self.levels, image)

    def sized(self, height: int, width: int) -> np.ndarray:
        """The trigger image in a sample's size."""
        return fit(self.levels, height, width)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels(image + self.strength * self.sized(*image.shape[:2]))


class Perturbation(Added):
    """An l2 perturbation is added: as :class:`Added`, but of the samples' size, since it is worthless resized."""

    def sized(self, height: int, width: int) -> np.ndarray:
        return exact(self.levels, (height, width), self.image)
