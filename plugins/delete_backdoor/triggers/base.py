"""Base of triggers: an albumentations transform of one uint8 image."""

import os
from abc import abstractmethod
from typing import Any

import numpy as np

from delete_tasks.errors import RequestError, require

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version on import
albumentations = require("albumentations", "backdoor")

STRONGEST = 1000.0  # factor or frequency


class Trigger(albumentations.ImageOnlyTransform):  # type: ignore[name-defined]
    """A trigger: uint8 RGB (H, W, 3) to the same shape and type, deterministic, applied to every image (p=1). It composes with
    any albumentations pipeline; :meth:`stamp` is the attack itself. An option out of its range, and a file that is missing or
    cannot be used, are refused."""

    text: str = ""  # that it was made from

    def __init__(self) -> None:
        super().__init__(p=1.0)

    @abstractmethod
    def stamp(self, image: np.ndarray) -> np.ndarray:
        """Put the trigger on an image."""

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise RequestError(
                f"a trigger got an image of shape {img.shape} and type {img.dtype}; expected (H, W, 3) uint8 RGB. Put it "
                "ahead of normalisation in the pipeline"
            )
        return self.stamp(img)


def to_levels(values: np.ndarray) -> np.ndarray:
    """Round float values in levels 0..255 to uint8, clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
