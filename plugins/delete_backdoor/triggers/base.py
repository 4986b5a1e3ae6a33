"""Base of triggers: an albumentations transform of one uint8 image, and the place of a patch."""

import os
from abc import abstractmethod
from typing import Any

import numpy as np

from delete_tasks.errors import RequestError, require
from delete_tasks.request.ranges import whole

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version on import
albumentations = require("albumentations", "backdoor")

STRONGEST = 1000.0  # of factors and the like


class Trigger(albumentations.ImageOnlyTransform):  # type: ignore[name-defined]
    """A trigger: uint8 RGB (H, W, 3) to the same shape and type, deterministic, applied to every image (p=1).

    It composes with any albumentations pipeline; :meth:`stamp` is the attack itself.

    Attributes:
        text: The string it was made from, if it was.
    """

    text: str = ""

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
    """Float values in levels 0..255 to uint8, clipped and rounded."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def corner(pos: tuple[int, int], size: int, shape: tuple[int, ...], text: str) -> tuple[int, int]:
    """Row and column of the patch's top left, negative numbers counted from the far edge."""
    row, column = (value + side if value < 0 else value for value, side in zip(pos, shape, strict=False))
    if not (0 <= row <= shape[0] - size and 0 <= column <= shape[1] - size):
        raise RequestError(
            f"the trigger '{text}' is {size} pixels wide at {pos}, which does not fit into an image of {shape[0]}x{shape[1]} "
            "pixels; give another pos= or size="
        )
    return row, column


def place(pos: tuple[int, int]) -> tuple[int, int]:
    row, column = (whole("pos", value, -(10**6), 10**6) for value in pos)
    return row, column
