"""Triggers that change every pixel a little: Blended, SIG, Trojan watermark, l2 perturbations."""

from __future__ import annotations

import numpy as np

from .base import Trigger, fit, read_levels, to_levels


class Blended(Trigger):
    """(1 - alpha) x + alpha image (Chen et al., "Targeted Backdoor Attacks ...", arXiv 1712.05526).

    Args:
        image: File of the image to blend in, resized to the sample's size.
        alpha: Its share, above 0 and at most 1.
    """

    def __init__(self, image: str, alpha: float = 0.2) -> None:
        super().__init__()
        self.levels, self.alpha = read_levels(image), alpha

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels((1 - self.alpha) * image + self.alpha * fit(self.levels, *image.shape[:2]))


class Sinusoid(Trigger):
    """x + delta sin(2 pi j f / W) in column j (Barni et al., "SIG", arXiv 1902.11237); made for clean-label poisoning.

    Args:
        delta: Amplitude in levels.
        f: Periods across the image.
    """

    def __init__(self, delta: float = 20.0, f: float = 6.0) -> None:
        super().__init__()
        self.delta, self.f = delta, f

    def stamp(self, image: np.ndarray) -> np.ndarray:
        columns = np.arange(image.shape[1])
        wave = self.delta * np.sin(2 * np.pi * columns * self.f / image.shape[1])
        return to_levels(image + wave[None, :, None])


class Added(Trigger):
    """x + strength image, clipped: Trojan's watermark (Liu et al., NDSS 2018, as in I-BAU) and l2 perturbations.

    Args:
        image: File of the trigger image; .npy may hold signed values.
        strength: What it is multiplied by.
    """

    def __init__(self, image: str, strength: float = 1.0) -> None:
        super().__init__()
        self.levels, self.strength = read_levels(image), strength

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels(image + self.strength * fit(self.levels, *image.shape[:2]))
