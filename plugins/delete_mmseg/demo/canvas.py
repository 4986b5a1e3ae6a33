"""Street of a drawn scene, the camera that sees it, and a canvas that paints colours and labels with the same strokes."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

Colour = NDArray[np.float64]

# Fixed-point fractional bits of the polygon corners: without them distant objects snap to whole pixels.
_SHIFT = 4
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES), 0 * _ANGLES], axis=-1)

# Cityscapes labelIds of the classes in the scenes. Ego vehicle and static are void classes there: no class to learn.
LABEL_IDS = {
    "unlabeled": 0, "ego vehicle": 1, "static": 4, "road": 7, "sidewalk": 8, "building": 11, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "car": 26,
}  # fmt: skip

# (zenith, horizon, light on everything)
_SKIES = (
    ((74, 132, 204), (190, 214, 236), (1.06, 1.03, 0.98)),
    ((104, 160, 216), (222, 230, 236), (1.05, 1.02, 1.0)),
    ((158, 166, 176), (206, 210, 214), (0.9, 0.92, 0.95)),
    ((112, 122, 138), (170, 176, 184), (0.8, 0.83, 0.88)),
    ((96, 110, 168), (250, 190, 130), (1.08, 0.93, 0.8)),
    ((54, 62, 110), (196, 140, 140), (0.78, 0.72, 0.82)),
)
_OVERCAST = (2, 3, 5)


class Scene:
    """Random street, and the canvas that it is painted on from far to near. Coordinates are metres in the frame of a level
    pinhole camera: X to the right, Y up from the ground, Z ahead. Colours are RGB, 0 to 255. ``rng`` decides everything random in
    the scene; ``height`` and ``width`` are in pixels."""

    def __init__(self, rng: Generator, height: int, width: int) -> None:
        self.rng = rng
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.labels = np.zeros((height, width), np.uint8)  # labelIds
        self.focal = width * rng.uniform(0.62, 0.95)  # focal length in pixels
        self.centre = width * rng.uniform(0.3, 0.7)  # column of the vanishing point
        self.horizon = height * rng.uniform(0.36, 0.52)  # its row
        self.eye = rng.uniform(1.4, 2.3)  # height of the lens
        wide = rng.uniform(6.5, 12)
        left = -wide * rng.uniform(0.4, 0.7)
        weather = rng.integers(len(_SKIES))
        zenith, horizon, self.light = (np.array(colour, dtype=float) for colour in _SKIES[weather])
        self.kerbs = (left, left + wide)  # X of the left and the right one
        self.pavements = (rng.uniform(1.6, 4), rng.uniform(1.6, 4))  # widths
        self.sun = int(rng.choice([-1, 1]))  # side that the light comes from: -1 left, 1 right
        self.zenith = (zenith + rng.normal(0, 8, 3)).clip(0, 255)  # colour of the sky above
        self.haze = (horizon + rng.normal(0, 8, 3)).clip(0, 255)  # of the sky at the horizon, and of distant things
        self.sunny = weather not in _OVERCAST  # hard shadows
        self.visibility = rng.uniform(60, 320)  # metres after which 63% of a colour is haze

    def edge(self, side: int) -> float:
        """Compute the X at which the pavement of a side (-1 left, 1 right) ends."""
        index = (side + 1) // 2
        return self.kerbs[index] + side * self.pavements[index]

    def pick(self, colours: Sequence[tuple[int, int, int]], spread: float = 12.0) -> Colour:
        """Choose one of the colours and change it a little."""
        return (np.array(colours)[self.rng.integers(len(colours))] + self.rng.normal(0, spread, 3)).clip(5, 250)

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Project points of shape (..., 3) in metres to pixel positions (column, row) of shape (..., 2)."""
        xyz = np.asarray(points, dtype=np.float64)
        # Nothing is drawn closer than this; a corner behind the lens would flip to the other side of the picture.
        depth = np.maximum(xyz[..., 2], 0.5)
        columns = self.centre + self.focal * xyz[..., 0] / depth
        rows = self.horizon + self.focal * (self.eye - xyz[..., 1]) / depth
        return np.stack([columns, rows], axis=-1).clip(-4e3, 4e3)

    def _paint(self, pixels: NDArray[np.float64], colour: ArrayLike, label: str, depth: float) -> None:
        clear = np.exp(-depth / self.visibility)
        faded = np.asarray(colour) * clear + self.haze * (1 - clear)
        fixed = list((pixels * (1 << _SHIFT)).round().astype(np.int32))
        cv2.fillPoly(self.rgb, fixed, faded.tolist(), shift=_SHIFT)
        cv2.fillPoly(self.labels, fixed, LABEL_IDS[label], shift=_SHIFT)

    def fill(self, points: ArrayLike, colour: ArrayLike, label: str) -> None:
        """Paint one polygon (K, 3) or several of equal length (N, K, 3), in metres, with one colour."""
        xyz = np.asarray(points, dtype=np.float64)
        xyz = xyz[None] if xyz.ndim == 2 else xyz
        if len(xyz):
            self._paint(self.project(xyz), colour, label, float(xyz[..., 2].mean()))

    def disc(self, centre: ArrayLike, radii: tuple[float, float], colour: ArrayLike, label: str) -> None:
        """Paint an upright ellipse that faces the camera: centre (3,) and (horizontal, vertical) radii in metres."""
        self.fill(np.asarray(centre, dtype=np.float64) + _CIRCLE * [*radii, 0.0], colour, label)

    def bar(self, start: ArrayLike, end: ArrayLike, width: float, colour: ArrayLike, label: str) -> None:
        """Paint a straight bar between two points (3,) in metres that is `width` metres wide and faces the camera."""
        ends = np.asarray([start, end], dtype=np.float64)
        depth = float(ends[:, 2].mean())
        pixels = self.project(ends)
        along = pixels[1] - pixels[0]
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        # A pole far away would be thinner than the final picture's pixels and break to pieces in the labels.
        half = across * max(width * self.focal / max(depth, 0.5), 4.0) / 2
        corners = np.stack([pixels[0] - half, pixels[0] + half, pixels[1] + half, pixels[1] - half])
        self._paint(corners[None], colour, label, depth)

    def shade(self, points: ArrayLike, factor: float) -> None:
        """Multiply the colours under a polygon (K, 3), in metres, by a factor. Labels stay."""
        pixels = self.project(points)
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


def ground(x0: float, x1: float, z0: float, z1: float) -> list[list[float]]:
    """List the corners of a rectangle on the ground."""
    return [[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]]


def front(x0: float, x1: float, y0: float, y1: float, z: float) -> list[list[float]]:
    """List the corners of an upright rectangle that faces the camera."""
    return [[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]]


def wall(x: float, y0: float, y1: float, z0: float, z1: float) -> list[list[float]]:
    """List the corners of an upright rectangle along the street."""
    return [[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]]
