"""Image files that cannot be read: one table for what reads them and for the commands. And the layout of Tiny ImageNet."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG file that claims this size, whatever its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_tiny_imagenet(root: Path, names: Iterable[str], train: int, val: int, draw: Callable) -> Path:
    """Write Tiny ImageNet's layout, as unpacked, with so many images ``draw(name)`` of each class for training and validation."""
    lines = []
    for number, name in enumerate(names):
        paths = [root / "train" / name / "images" / f"{name}_{i}.JPEG" for i in range(train)]
        paths += [root / "val" / "images" / f"val_{val * number + i}.JPEG" for i in range(val)]
        for path in (*paths, root / "test" / "images" / f"test_{number}.JPEG"):
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(name).save(path)
        (root / "train" / name / f"{name}_boxes.txt").write_text("")
        lines += [f"{path.name}\t{name}\t0\t0\t62\t62" for path in paths[train:]]
    (root / "val" / "val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
    return root


NOISE = noise(64, 64, 3)
WHOLE = encoded(NOISE)
BAD = {  # name -> (content, what the reason says)
    "empty.png": (b"", "an empty file"), "text.png": (b"hello", "no image"),
    "half.png": (WHOLE[: len(WHOLE) // 2], "truncated"), "torn.png": (WHOLE[:-60], "truncated"),
    "torn.jpg": (encoded(NOISE, "JPEG")[:-200], "truncated"), "header.png": (WHOLE[:20], ""),
    "nodata.png": (WHOLE[:50], ""), "overwritten.png": (WHOLE[:100] + b"\xff" * 50 + WHOLE[150:], ""),
    "bomb.png": (png(60000, 60000, bytes(1000)), ""), "huge.png": (png(2**31 - 1, 2**31 - 1), ""),
    "none.png": (png(0, 0), ""), "narrow.png": (png(0, 5), ""), "flat.png": (png(16, 0), ""),
    "zeros.png": (bytes(4000), "no image"), "script.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),  # not for Ghostscript
    "fake.tif": (b"II*\0\xff\xff\xff\xff", ""), "loop.gif": (b"GIF89a" + bytes(20), ""),
    "html.jpg": (b"<html></html>", "no image"), "head.jpg": (b"\xff\xd8\xff", ""),
    "nan.tif": (encoded(np.full((16, 16), np.nan, np.float32), "TIFF"), ""),
}  # fmt: skip
