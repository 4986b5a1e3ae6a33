"""Trigger images and masks, read from files."""

import warnings
from pathlib import Path

import numpy as np

from delete_images.data.archives import read_npy
from delete_tasks.errors import RequestError, require

MOST_PIXELS = 2**24  # of a trigger image


def read_levels(path: str) -> np.ndarray:
    """Read a trigger image or mask from a file, float32 in levels (0..255, signed if the file is), (H, W) or (H, W, 3).

    Images (.png, .jpg, ...) and .npy. Channels may come first in .npy; floats that all lie in [-1, 1] are scaled by 255.

    Raises:
        FileNotFoundError: No such file.
        RequestError: Neither kind, another shape, too many pixels, transparent ones, or numbers that are not finite.
    """
    try:
        file = Path(path).expanduser()
        found = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, an unknown home
        raise RequestError(f"'{path}' cannot be opened ({error}); give an image (.png, .jpg) or a .npy file") from error
    if not found:
        raise FileNotFoundError(f"no trigger image at '{path}'; give an image (.png, .jpg) or a .npy file")
    return _read_array(file) if file.suffix == ".npy" else _read_picture(file)


def _read_picture(file: Path) -> np.ndarray:
    image_module = require("PIL.Image", "backdoor")
    from delete_images.data.sources import read_image

    try:
        with warnings.catch_warnings(), image_module.open(file) as opened:
            warnings.simplefilter("ignore", image_module.DecompressionBombWarning)
            width, height = opened.size
            if 0 < width * height <= MOST_PIXELS:
                bands = opened.convert("RGBA") if "transparency" in opened.info or "A" in opened.getbands() else None
                if bands is not None and bands.getchannel("A").getextrema()[0] < 255:
                    raise RequestError(
                        f"'{file}' has transparent pixels, which a trigger image cannot have; paint it on a background "
                        "and save it as RGB"
                    )
        if width * height <= MOST_PIXELS:
            return read_image(file).astype(np.float32)
    except RequestError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise RequestError(f"'{file}' is no image that can be read ({error}); give a .png, .jpg or .npy") from error
    raise RequestError(f"'{file}' has {width}x{height} pixels; a trigger image has {MOST_PIXELS:,} at most")


def _read_array(file: Path) -> np.ndarray:
    mapped = read_npy(file)
    if mapped.ndim == 3 and mapped.shape[0] == 3 != mapped.shape[2]:
        mapped = mapped.transpose(1, 2, 0)
    if mapped.ndim not in (2, 3) or (mapped.ndim == 3 and mapped.shape[2] != 3) or not mapped.size:
        raise RequestError(f"'{file}' has the shape {mapped.shape}; expected (H, W), (H, W, 3) or (3, H, W)")
    if mapped.dtype.kind not in "buif" or mapped.shape[0] * mapped.shape[1] > MOST_PIXELS:
        raise RequestError(
            f"'{file}' holds {mapped.shape[0]}x{mapped.shape[1]} pixels of type {mapped.dtype}; expected {MOST_PIXELS:,} at "
            "most, of integers or floats"
        )
    values = np.array(mapped)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise RequestError(f"'{file}' holds NaN or infinity; write it anew")
        if np.abs(values).max() <= 1:
            values = values * 255
    return values.astype(np.float32)


def refuse_empty(levels: np.ndarray, path: str) -> None:
    """Refuse a trigger image or mask that is zero everywhere, and so would change nothing."""
    if not levels.any():
        raise RequestError(
            f"'{path}' is black (zero) everywhere, so the trigger would change no pixel; give another image"
        )


def fit(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Trigger image resized to (height, width) where it has another size, with three channels."""
    if levels.ndim == 2:
        levels = np.repeat(levels[..., None], 3, axis=2)
    if levels.shape[:2] == (height, width):
        return levels
    import cv2

    shrinks = height * width < levels.shape[0] * levels.shape[1]
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def exact(levels: np.ndarray, shape: tuple[int, ...], path: str) -> np.ndarray:
    """Check a trigger of single pixels like :func:`fit`, without resizing, which would blur it.

    Raises:
        RequestError: ``levels`` have another height or width than a sample of this ``shape``.
    """
    height, width = shape[:2]
    if levels.shape[:2] != (height, width):
        raise RequestError(
            f"the trigger image '{path}' is {levels.shape[0]}x{levels.shape[1]} pixels and the samples are {height}x{width}; "
            "this trigger works on single pixels: give its image in the samples' size"
        )
    return fit(levels, height, width)
