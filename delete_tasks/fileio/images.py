"""Image files as uint8 RGB: upright, converted without loss of meaning or refused, and never too large for memory."""

import contextlib
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RequestError, first_line, require
from .inputs import open_regular

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
# Files are read by their content, whatever their suffix; Pillow would pass some other formats to other programs (EPS to
# Ghostscript). Many telephones write MPO as .jpg.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000")
MOST_PIXELS = 89_478_485  # from here Pillow warns of decompression bombs; decoding so many takes 0.7 GB
STRIP = 4_000_000  # pixels to convert at once
LARGE = 16_000_000  # pixels; images that are larger are decoded one at a time
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Older Pillow opens 16-bit PNG as 32-bit integers, every version 16-bit PGM; in a TIFF those may mean anything.
SIXTEEN_AS_THIRTY_TWO = ("PNG", "PPM")
WHITE_IS_ZERO, PHOTOMETRIC, BITS = 0, 262, 258  # of TIFF

_DECODING = threading.Lock()


class DamagedImageError(RequestError):
    """A damaged or incomplete image file; the reader of a folder leaves it out and names it with the ``reason``."""

    reason: str


def _damaged(path: Any, reason: str) -> DamagedImageError:
    error = DamagedImageError(f"'{path}' cannot be read as an image ({reason}); give a whole .jpg, .png or .webp file")
    error.reason = reason
    return error


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as uint8 (H, W, 3) RGB, turned upright by its EXIF data; 16-bit images are divided by 257. Raise
    :class:`DamagedImageError` if the file is damaged, or no image, :class:`RequestError` for more than :data:`MOST_PIXELS`
    pixels, or floating-point or 32-bit pixels, whose range is not known."""
    image_module, operations = require("PIL.Image", "images"), require("PIL.ImageOps", "images")
    try:
        image_module.init()
        formats = [name for name in FORMATS if name in image_module.OPEN]
        # As a stream: Pillow maps a TIFF that it opens by name into memory, and then scrambles one that has to be rotated.
        with open_regular(path) as stream, image_module.open(stream, formats=formats) as file:
            width, height = file.size
            if width < 1 or height < 1:
                raise _damaged(path, f"{width} x {height} pixels")
            if width * height > MOST_PIXELS:
                raise _too_large(path, f"{width} x {height} pixels")
            _check_mode(path, file)
            with _DECODING if width * height > LARGE else contextlib.nullcontext():
                operations.exif_transpose(file, in_place=True)
                return _to_rgb(path, file)
    except RequestError:
        raise
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        match = re.search("[0-9]+", str(error))
        raise _too_large(path, f"{int(match.group()):,} pixels" if match else "far too many pixels") from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        reason = "no image" if isinstance(error, image_module.UnidentifiedImageError) else first_line(error)
        empty = Path(path).is_file() and Path(path).stat().st_size == 0
        raise _damaged(path, "an empty file" if empty else reason) from error


def _too_large(path: Any, size: str) -> RequestError:
    return RequestError(
        f"'{path}' is too large: {size}. Images of more than {MOST_PIXELS:,} pixels are refused, since they may be made to fill "
        "the memory; make it smaller"
    )


def _check_mode(path: Any, file: Any) -> None:
    sixteen = file.mode in SIXTEEN_BITS or (file.mode == "I" and file.format in SIXTEEN_AS_THIRTY_TWO)
    if file.mode not in EIGHT_BITS and not sixteen:
        kind = {"F": "floating-point", "I": "32-bit or signed integer"}.get(file.mode, f"mode '{file.mode}'")
        raise RequestError(
            f"'{path}' holds {kind} pixels, whose values of black and white are not known; convert it to 8 or 16 bits per "
            "channel, e.g. with Pillow: Image.fromarray((255 * (x - low) / (high - low)).round().astype('uint8'))"
        )


def _to_rgb(path: Any, file: Any) -> np.ndarray:
    """Convert a decoded image to (H, W, 3), strip by strip, so that a large image is in memory at most twice."""
    width, height = file.size
    table = None if file.mode in EIGHT_BITS else _grey_table(file)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = file if rows >= height else file.crop((0, top, width, min(height, top + rows)))
        if table is None:
            pixels[top : top + rows] = np.asarray(strip.convert("RGB"))
            continue
        values = np.asarray(strip)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= len(table):
            raise RequestError(
                f"'{path}' holds values from {low} to {high}; expected 0 to {len(table) - 1}. Convert it to 8 bits per channel"
            )
        pixels[top : top + rows] = table[values][:, :, None]
    return pixels


def _grey_table(file: Any) -> np.ndarray:
    """Make the table of 8-bit values for the values of a 16-bit (or 12-bit) image."""
    tags = file.tag_v2 if file.format == "TIFF" else {}
    most = 4095 if tags.get(BITS) in (12, (12,)) else 65535
    table = ((np.arange(most + 1) * 255 + most // 2) // most).astype(np.uint8)
    return table[::-1] if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else table


def check_pictures(inputs: Any) -> None:
    """Read each input that is an image file by its suffix, to refuse a damaged one early; raises as :func:`read_image`."""
    for path in inputs:
        if Path(path).suffix.lower() in SUFFIXES and Path(path).is_file():
            read_image(path)


def readable_name(path: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, e.g. ``caf\\udce9.jpg``."""
    return path.encode("utf-8", "backslashreplace").decode()
