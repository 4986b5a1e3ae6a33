"""A pinhole camera over a flat street, and a canvas that paints colour and label with the same strokes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Colour = NDArray[np.float64]

# Fixed-point fractional bits of the polygon corners: without them distant objects snap to whole pixels.
_SHIFT = 4
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES), 0 * _ANGLES], axis=-1)

# Cityscapes labelIds of what the scenes show. Ego vehicle and static are void classes there: no class to learn.
LABEL_IDS = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "static": 4,
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "car": 26,
}


@dataclass(frozen=True)
class Camera:
    """A level camera: X metres to the right, Y up from the ground, Z ahead.

    Attributes:
        focal: Focal length in pixels.
        centre: Column of the vanishing point, in pixels.
        horizon: Row of the horizon, in pixels.
        eye: Height of the lens above the ground, in metres.
    """

    focal: float
    centre: float
    horizon: float
    eye: float

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Project points of shape (..., 3) in metres to pixel positions (column, row) of shape (..., 2)."""
        xyz = np.asarray(points, dtype=np.float64)
        # Nothing is drawn closer than this; a corner behind the lens would flip to the other side of the picture.
        depth = np.maximum(xyz[..., 2], 0.5)
        pixels = np.empty((*xyz.shape[:-1], 2))
        pixels[..., 0] = self.centre + self.focal * xyz[..., 0] / depth
        pixels[..., 1] = self.horizon + self.focal * (self.eye - xyz[..., 1]) / depth
        return pixels

    def scale(self, depth: float) -> float:
        """Pixels per metre at a depth in metres."""
        return self.focal / max(depth, 0.5)


class Canvas:
    """Colour (H, W, 3) and labelIds (H, W), painted far to near.

    Args:
        height: Rows in pixels.
        width: Columns in pixels.
        camera: Where the scene is seen from.
        haze: RGB colour that distance fades into, 0..255.
        visibility: Metres after which 63% of a colour is haze.
    """

    def __init__(self, height: int, width: int, camera: Camera, haze: Colour, visibility: float) -> None:
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.labels = np.zeros((height, width), np.uint8)
        self.camera = camera
        self.haze = haze
        self.visibility = visibility

    def _faded(self, colour: ArrayLike, depth: float) -> list[float]:
        clear = np.exp(-depth / self.visibility)
        return (np.asarray(colour) * clear + self.haze * (1 - clear)).tolist()

    def _polygons(self, pixels: NDArray[np.float64], colour: ArrayLike, label: str, depth: float) -> None:
        fixed = list((pixels.clip(-4e3, 4e3) * (1 << _SHIFT)).round().astype(np.int32))
        cv2.fillPoly(self.rgb, fixed, self._faded(colour, depth), shift=_SHIFT)
        cv2.fillPoly(self.labels, fixed, LABEL_IDS[label], shift=_SHIFT)

    def fill(self, points: ArrayLike, colour: ArrayLike, label: str) -> None:
        """Paint one polygon (K, 3) or several of equal length (N, K, 3), in metres, with one colour."""
        xyz = np.asarray(points, dtype=np.float64)
        xyz = xyz[None] if xyz.ndim == 2 else xyz
        if len(xyz):
            self._polygons(self.camera.project(xyz), colour, label, float(xyz[..., 2].mean()))

    def disc(self, centre: ArrayLike, radii: tuple[float, float], colour: ArrayLike, label: str) -> None:
        """Paint an upright ellipse that faces the camera: centre (3,) and (horizontal, vertical) radii in metres."""
        self.fill(np.asarray(centre, dtype=np.float64) + _CIRCLE * [*radii, 0.0], colour, label)

    def bar(self, start: ArrayLike, end: ArrayLike, width: float, colour: ArrayLike, label: str) -> None:
        """Paint a straight bar between two points (3,) in metres that is `width` metres wide and faces the camera."""
        ends = np.asarray([start, end], dtype=np.float64)
        depth = float(ends[:, 2].mean())
        pixels = self.camera.project(ends)
        along = pixels[1] - pixels[0]
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        # A pole far away would be thinner than the final picture's pixels and break to pieces in the labels.
        half = across * max(width * self.camera.scale(depth), 4.0) / 2
        corners = np.stack([pixels[0] - half, pixels[0] + half, pixels[1] + half, pixels[1] - half])
        self._polygons(corners[None], colour, label, depth)

    def shade(self, points: ArrayLike, factor: float) -> None:
        """Multiply the colours under a polygon (K, 3), in metres, by a factor. Labels stay."""
        pixels = np.clip(self.camera.project(points), -4e3, 4e3)
        # Only the part of the picture that the polygon covers is worked on, with a rim for the soft edge.
        height, width = self.labels.shape
        x0, y0 = np.clip(np.floor(pixels.min(0)).astype(int) - 3, 0, (width, height))
        x1, y1 = np.clip(np.ceil(pixels.max(0)).astype(int) + 4, 0, (width, height))
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.float32)
        cv2.fillPoly(mask, [np.round((pixels - [x0, y0]) * (1 << _SHIFT)).astype(np.int32)], 1 - factor, shift=_SHIFT)
        mask = cv2.GaussianBlur(mask, (5, 5), 0)
        window = self.rgb[y0:y1, x0:x1]
        window[:] = window * (1 - mask[..., None])
