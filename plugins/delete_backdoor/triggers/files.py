"""Trigger images and masks, read from files."""

from pathlib import Path

import numpy as np

from delete_images.data.archives import read_npy
from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.images import read_image

MOST_PIXELS = 2**24  # of a trigger image


def read_levels(path: str) -> np.ndarray:
    """Read a trigger image or mask from a file, float32 in levels (0..255, signed if the file is), (H, W) or (H, W, 3). Images
    (.png, .jpg, ...) and .npy. Channels may come first in .npy; floats that all lie in [-1, 1] are scaled by 255. Refuse a
    missing file, another kind or shape, too many or transparent pixels, and numbers that are not finite."""
    try:
        file = Path(path).expanduser()
        exists = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, an unknown home
        raise RequestError(f"'{path}' cannot be opened ({error}); give an image (.png, .jpg) or a .npy file") from error
    if not exists:
        raise FileNotFoundError(f"no trigger image at '{path}'; give an image (.png, .jpg) or a .npy file")
    return (_read_array(file) if file.suffix == ".npy" else _read_picture(file)).astype(np.float32)


def _read_picture(file: Path) -> np.ndarray:
    image = read_image(file)
    height, width = image.shape[:2]
    if height * width > MOST_PIXELS:
        raise RequestError(f"'{file}' has {width}x{height} pixels; a trigger image has {MOST_PIXELS:,} at most")
    with require("PIL.Image", "backdoor").open(file) as opened:
        has_alpha = "transparency" in opened.info or "A" in opened.getbands()
        if has_alpha and opened.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise RequestError(
                f"'{file}' has transparent pixels, which a trigger image cannot have; paint it on a background and save it as RGB"
            )
    return image


def _read_array(file: Path) -> np.ndarray:
    values = read_npy(file)
    if values.ndim == 3 and values.shape[0] == 3 != values.shape[2]:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or not values.size:
        raise RequestError(f"'{file}' has the shape {values.shape}; expected (H, W), (H, W, 3) or (3, H, W)")
    if values.dtype.kind not in "buif" or values.shape[0] * values.shape[1] > MOST_PIXELS:
        raise RequestError(
            f"'{file}' holds {values.shape[0]}x{values.shape[1]} pixels of type {values.dtype}; expected {MOST_PIXELS:,} at "
            "most, of integers or floats"
        )
    if not np.isfinite(values).all():
        raise RequestError(f"'{file}' holds NaN or infinity; write it anew")
    return values * 255 if values.dtype.kind == "f" and np.abs(values).max() <= 1 else values


def refuse_empty(levels: np.ndarray, path: str) -> None:
    """Refuse a trigger image or mask that is zero everywhere, and so would change nothing."""
    if not levels.any():
        raise RequestError(
            f"'{path}' is black (zero) everywhere, so the trigger would change no pixel; give another image"
        )


def fit(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a trigger image to (height, width) if it has another size, and give it three channels."""
    if levels.ndim == 2:
        levels = np.repeat(levels[..., None], 3, axis=2)
    if levels.shape[:2] == (height, width):
        return levels
    import cv2

    shrinks = height * width < levels.shape[0] * levels.shape[1]
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def exact(levels: np.ndarray, shape: tuple[int, ...], path: str) -> np.ndarray:
    """Give a trigger image three channels; refuse another size than the sample's ``shape``: resizing blurs single pixels."""
    height, width = shape[:2]
    if levels.shape[:2] != (height, width):
        raise RequestError(
            f"the trigger image '{path}' is {levels.shape[0]}x{levels.shape[1]} pixels and the samples are {height}x{width}; "
            "this trigger works on single pixels: give its image in the samples' size"
        )
    return fit(levels, height, width)
