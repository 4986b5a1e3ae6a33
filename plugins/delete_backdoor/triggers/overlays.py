"""Overlays, whose image is in a file: blended, trojan, l2 and l0; the files are images or arrays."""

from pathlib import Path

import numpy as np

from delete_images.data.archives import read_npy
from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.images import read_image
from delete_tasks.request.ranges import number

from ..grammar import File
from .base import STRONGEST, Trigger, register_trigger, to_levels

MOST_PIXELS = 2**24  # of a trigger image


class Overlay(Trigger):
    """A trigger with an image from the file ``image``, which is resized to the sample's size, unless single pixels matter."""

    resized = True

    def __init__(self, image: File) -> None:
        super().__init__()
        self.levels, self.image = read_levels(image), image

    def fit(self, levels: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """Give a trigger image or mask three channels and the size of the sample, or refuse another size."""
        size = height, width = sample.shape[:2]
        if levels.ndim == 2:
            levels = np.repeat(levels[..., None], 3, axis=2)
        if levels.shape[:2] == size:
            return levels
        if not self.resized:
            raise RequestError(
                f"the trigger image '{self.image}' is {levels.shape[0]}x{levels.shape[1]} pixels and the samples are "
                f"{height}x{width}; this trigger works on single pixels: give its image in the samples' size"
            )
        import cv2

        shrinks = height * width < levels.shape[0] * levels.shape[1]
        return cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@register_trigger("blended")
class Blended(Overlay):
    """Another image shines through: (1 - alpha) x + alpha image (Chen et al., "Targeted Backdoor Attacks on Deep Learning Systems
    Using Data Poisoning", arXiv 1712.05526). ``alpha`` is the image's share, above 0 and at most 1."""

    def __init__(self, image: File, alpha: float = 0.2) -> None:
        self.alpha = number("alpha", alpha, 0, 1, above=True)
        super().__init__(image)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels((1 - self.alpha) * image + self.alpha * self.fit(self.levels, image))


@register_trigger("trojan")
class Added(Overlay):
    """A watermark is added: x + strength image, clipped (Liu et al., "Trojaning Attack on Neural Networks", NDSS 2018, as in
    I-BAU). A .npy file may hold signed values."""

    def __init__(self, image: File, strength: float = 1.0) -> None:
        self.strength = number("strength", strength, 0, STRONGEST, above=True)
        super().__init__(image)
        refuse_empty(self.levels, image)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        return to_levels(image + self.strength * self.fit(self.levels, image))


@register_trigger("l2")
class Perturbation(Added):
    """A small perturbation is added: as trojan, with an image of the samples' size, since resizing would spoil it."""

    resized = False


@register_trigger("l0")
class SparseTrigger(Overlay):
    """Some pixels take the image's values, the others stay: x * (1 - mask) + image ("l0_inv" of I-BAU, arXiv 2110.03735). Both
    files have the samples' size; the mask is 1 (or 255) for replaced pixels, by default those that are not black in the image."""

    resized = False

    def __init__(self, image: File, mask: File | None = None) -> None:
        super().__init__(image)
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
        return to_levels(image * (1 - self.fit(self.mask, image)) + self.fit(self.levels, image))


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
        raise RequestError(f"'{path}' is black everywhere, so the trigger would change no pixel; give another image")
