"""What triggers share: an albumentations transform of one uint8 image, and reading trigger images from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from delete_tasks.errors import RequestError, require

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version on import
albumentations = require("albumentations", "backdoor")


class Trigger(albumentations.ImageOnlyTransform):  # type: ignore[name-defined]
    """A trigger: uint8 RGB (H, W, 3) to the same shape and type, deterministic, applied to every image (p=1).

    It composes with any albumentations pipeline; :meth:`stamp` is the attack itself.

    Attributes:
        text: The string it was made from, if it was.
    """

    text: str = ""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        """The triggered image."""
        raise NotImplementedError

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


def read_levels(path: str) -> np.ndarray:
    """A trigger image or mask from a file, float32 in levels (0..255, signed where the file is), (H, W) or (H, W, 3).

    Images (.png, .jpg, ...) and .npy. Channels may come first in .npy; floats that all lie in [-1, 1] are scaled by 255.

    Raises:
        FileNotFoundError: No such file.
        RequestError: Neither kind, or another shape.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no trigger image at '{path}'; give an image (.png, .jpg) or a .npy file")
    if file.suffix != ".npy":
        from delete_images.sources import read_image

        try:
            return read_image(file).astype(np.float32)
        except Exception as error:  # Pillow raises a dozen kinds for damaged files
            raise RequestError(f"'{path}' is no image that can be read ({error}); give a .png, .jpg or .npy") from error
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RequestError(f"'{path}' cannot be read as a plain array ({error}); write it with numpy.save") from error
    if values.ndim == 3 and values.shape[0] == 3 != values.shape[2]:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise RequestError(f"'{path}' has the shape {values.shape}; expected (H, W), (H, W, 3) or (3, H, W)")
    if values.dtype.kind == "f" and values.size and np.abs(values).max() <= 1:
        values = values * 255
    return values.astype(np.float32)


def fit(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Trigger image resized to (height, width) where it has another size, with three channels."""
    if levels.ndim == 2:
        levels = np.repeat(levels[..., None], 3, axis=2)
    if levels.shape[:2] == (height, width):
        return levels
    import cv2

    shrinks = height * width < levels.shape[0] * levels.shape[1]
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
