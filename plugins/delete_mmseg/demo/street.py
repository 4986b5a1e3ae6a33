"""The street itself: light, sky, ground and what lines it. All sizes are in metres, colours are RGB 0..255."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from .canvas import LABEL_IDS, Camera, Canvas, Colour
from .objects import draw_bush, draw_tree, pick

FAR = 110.0
NEAR = 1.0

# (zenith, horizon, light on everything)
_SKIES = (
    ((74, 132, 204), (190, 214, 236), (1.06, 1.03, 0.98)),
    ((104, 160, 216), (222, 230, 236), (1.05, 1.02, 1.0)),
    ((158, 166, 176), (206, 210, 214), (0.9, 0.92, 0.95)),
    ((112, 122, 138), (170, 176, 184), (0.8, 0.83, 0.88)),
    ((96, 110, 168), (250, 190, 130), (1.08, 0.93, 0.8)),
    ((54, 62, 110), (196, 140, 140), (0.78, 0.72, 0.82)),
)
_WALLS = (
    (172, 92, 72), (196, 172, 140), (214, 206, 190), (150, 146, 142), (184, 150, 104), (122, 104, 94), (204, 184, 176),
    (140, 110, 84), (168, 176, 180), (190, 120, 90),
)  # fmt: skip
_ROOFS = ((134, 66, 52), (88, 84, 84), (112, 72, 56), (70, 74, 84))


@dataclass(frozen=True)
class Street:
    """Common properties of one scene.

    Attributes:
        camera: Where it is seen from.
        kerbs: X of the left and the right kerb.
        pavements: Width of the left and the right pavement.
        sun: -1 or 1, the side the light comes from.
        zenith: Colour of the sky above.
        haze: Colour of the sky at the horizon, which distance fades into.
        light: Factors (3,) on all colours.
        sunny: Whether there are hard shadows.
        visibility: Metres after which 63% of a colour is haze.
    """

    camera: Camera
    kerbs: tuple[float, float]
    pavements: tuple[float, float]
    sun: int
    zenith: Colour
    haze: Colour
    light: Colour
    sunny: bool
    visibility: float

    @classmethod
    def random(cls, rng: Generator, height: int, width: int) -> Street:
        """Choose a street for a picture of (height, width) pixels."""
        camera = Camera(
            focal=width * rng.uniform(0.62, 0.95),
            centre=width * rng.uniform(0.3, 0.7),
            horizon=height * rng.uniform(0.36, 0.52),
            eye=rng.uniform(1.4, 2.3),
        )
        wide = rng.uniform(6.5, 12)
        left = -wide * rng.uniform(0.4, 0.7)
        weather = rng.integers(len(_SKIES))
        zenith, horizon, light = (np.array(colour, dtype=float) for colour in _SKIES[weather])
        return cls(
            camera=camera,
            kerbs=(left, left + wide),
            pavements=(rng.uniform(1.6, 4), rng.uniform(1.6, 4)),
            sun=int(rng.choice([-1, 1])),
            zenith=(zenith + rng.normal(0, 8, 3)).clip(0, 255),
            haze=(horizon + rng.normal(0, 8, 3)).clip(0, 255),
            light=light,
            sunny=bool(weather not in (2, 3, 5)),
            visibility=rng.uniform(60, 320),
        )

    def edge(self, side: int) -> float:
        """X where the pavement of a side (-1 left, 1 right) ends."""
        index = (side + 1) // 2
        return self.kerbs[index] + side * self.pavements[index]


def strip(x0: float, x1: float, z0: float, z1: float, up: float = 0.0) -> list[list[float]]:
    """Corners of a rectangle that lies level at height `up`."""
    return [[x0, up, z0], [x1, up, z0], [x1, up, z1], [x0, up, z1]]


def draw_sky(canvas: Canvas, rng: Generator, street: Street) -> None:
    """Draw a gradient with clouds, and a row of distant roofs and trees on the horizon."""
    height, width = canvas.labels.shape
    rise = np.clip(np.arange(height) / street.camera.horizon, 0, 1)[:, None] ** rng.uniform(0.8, 1.6)
    canvas.rgb[:] = (street.zenith * (1 - rise) + street.haze * rise)[:, None].astype(np.uint8)
    canvas.labels[:] = LABEL_IDS["sky"]
    cover = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(0, 7)):
        x, y, spread = rng.uniform(0, width), rng.uniform(0, street.camera.horizon * 0.75), rng.uniform(0.03, 0.09)
        for _ in range(7):
            centre = (int(x + rng.normal(0, spread * width)), int(y + rng.normal(0, spread * height * 0.4)))
            radii = (int(spread * width * rng.uniform(0.5, 1)), int(spread * height * rng.uniform(0.4, 0.9)))
            cv2.ellipse(cover, centre, radii, 0, 0, 360, 1.0, -1)
    cover = cv2.GaussianBlur(cover, (0, 0), width / 64)[..., None] * rng.uniform(0.4, 0.85)
    canvas.rgb[:] = (canvas.rgb * (1 - cover) + (street.haze * 0.4 + 150) * cover).clip(0, 255).astype(np.uint8)
    x = -1.1 * FAR
    while x < 1.1 * FAR:
        wide, tall = rng.uniform(5, 18), rng.uniform(3, 16)
        if rng.random() < 0.35:
            draw_bush(canvas, rng, x + wide / 2, FAR, tall * 0.7)
        else:
            block = [[x, 0, FAR], [x + wide, 0, FAR], [x + wide, tall, FAR], [x, tall, FAR]]
            canvas.fill(block, pick(rng, _WALLS), "building")
        x += wide


def draw_ground(canvas: Canvas, rng: Generator, street: Street) -> None:
    """Grass to the horizon, pavements, road and its markings, and the shadow of the houses."""
    left, right = street.kerbs
    grass = pick(rng, ((108, 134, 66), (128, 128, 74), (92, 120, 60)), 8)
    canvas.fill(strip(-400, 400, NEAR, FAR), grass, "terrain")
    slab = pick(rng, ((176, 170, 162), (158, 152, 148), (186, 174, 158)), 8)
    for kerb, side in ((left, -1), (right, 1)):
        edge = street.edge(side)
        canvas.fill(strip(kerb, edge, NEAR, FAR), slab, "sidewalk")
        joints = np.arange(2, 26, rng.uniform(0.9, 1.8))
        canvas.fill([strip(kerb, edge, z, z + 0.05) for z in joints], slab * 0.82, "sidewalk")
        canvas.fill(strip((kerb + edge) / 2, (kerb + edge) / 2 + 0.04, NEAR, 40), slab * 0.85, "sidewalk")
        canvas.fill(strip(kerb, kerb + side * 0.2, NEAR, FAR), slab * 1.16, "sidewalk")
    asphalt = np.full(3, rng.uniform(62, 122)) + rng.normal(0, 4, 3)
    canvas.fill(strip(left, right, NEAR, FAR), asphalt, "road")
    for _ in range(rng.integers(0, 4)):  # patches where it was mended
        x, z, tone = rng.uniform(left, right - 1), rng.uniform(3, 30), asphalt * rng.uniform(0.82, 1.12)
        canvas.fill(strip(x, min(x + rng.uniform(0.6, 2.5), right), z, z + rng.uniform(1, 6)), tone, "road")
    paint = np.full(3, rng.uniform(0.75, 1.0) * 236)
    if rng.random() < 0.5:
        for x in (left + 0.3, right - 0.3):
            canvas.fill(strip(x - 0.07, x + 0.07, NEAR, FAR), paint, "road")
    middle, dash = (left + right) / 2, rng.uniform(2, 4)
    if rng.random() < 0.85:
        dashes = np.arange(rng.uniform(1, 4), 80, dash * 2)
        canvas.fill([strip(middle - 0.08, middle + 0.08, z, z + dash) for z in dashes], paint, "road")
    if rng.random() < 0.35:  # a zebra crossing
        z = rng.uniform(5, 16)
        stripes = [strip(x, x + 0.5, z, z + 3) for x in np.arange(left + 0.4, right - 0.6, 1.0)]
        canvas.fill(strip(left, right, z, z + 3), asphalt, "road")
        canvas.fill(stripes, paint, "road")
    if street.sunny:
        reach = street.edge(street.sun) - street.sun * rng.uniform(1, 9)
        canvas.shade(strip(street.edge(street.sun), reach, NEAR, FAR), rng.uniform(0.5, 0.72))


def draw_side(canvas: Canvas, rng: Generator, street: Street, side: int) -> None:
    """Line one side (-1 left, 1 right) of the street with houses and green gaps, far to near."""
    setback = rng.choice([0.0, 0.0, rng.uniform(1, 6)])
    line = street.edge(side) + side * setback
    green = rng.uniform(0.05, 0.45)
    z1 = FAR * 0.9
    while z1 > 5:
        z0 = max(z1 - rng.uniform(7, 20), 1.2)
        if rng.random() < green:
            for z in np.sort(rng.uniform(max(z0, 4), z1, 4))[::-1]:
                x = line + side * rng.uniform(1, 7)
                if rng.random() < 0.6:
                    draw_tree(canvas, rng, x, z, street.sun)
                else:
                    draw_bush(canvas, rng, x, z, rng.uniform(0.8, 1.8))
        else:
            _draw_house(canvas, rng, street, side, line, z0, z1)
        z1 = z0 - (rng.uniform(1, 5) if rng.random() < 0.3 else 0)


def _draw_house(canvas: Canvas, rng: Generator, street: Street, side: int, x: float, z0: float, z1: float) -> None:
    storey, floors = rng.uniform(2.8, 3.6), rng.integers(2, 8)
    tall, wall = storey * floors, pick(rng, _WALLS)
    # Facades that look at the sun are the ones on the other side of the street.
    front, gable = wall * (1.08 if side != street.sun else 0.74), wall * 0.9
    deep = x + side * 12
    canvas.fill([[x, 0, z0], [deep, 0, z0], [deep, tall, z0], [x, tall, z0]], gable, "building")
    if rng.random() < 0.45:
        roof, ridge = pick(rng, _ROOFS, 6), tall + rng.uniform(1.5, 3.5)
        mid = (x + deep) / 2
        canvas.fill([[x, tall, z0], [deep, tall, z0], [mid, ridge, z0]], gable, "building")
        canvas.fill([[x, tall, z0], [x, tall, z1], [mid, ridge, z1], [mid, ridge, z0]], roof, "building")
    canvas.fill([[x, 0, z0], [x, 0, z1], [x, tall, z1], [x, tall, z0]], front, "building")
    canvas.fill([[x, tall - 0.3, z0], [x, tall - 0.3, z1], [x, tall, z1], [x, tall, z0]], front * 0.7, "building")
    pane = np.array([66, 78, 94]) + rng.uniform(-20, 60)
    lit = np.array([244, 214, 140])
    pitch, wide, high = rng.uniform(1.9, 3.2), rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.65)
    columns = np.arange(z0 + 0.5, z1 - pitch * wide - 0.2, pitch)
    # A shop or doors below, windows above.
    for floor in range(floors):
        bottom = floor * storey + (0.9 if floor else 0.3)
        top = bottom + storey * (high if floor else 0.7)
        quads = np.array([[[x, bottom, z], [x, bottom, z + pitch * wide], [x, top, z + pitch * wide], [x, top, z]]
                          for z in columns])  # fmt: skip
        if not len(quads):
            continue
        frame = quads + np.array([[0, -0.12, -0.1], [0, -0.12, 0.1], [0, 0.1, 0.1], [0, 0.1, -0.1]])
        canvas.fill(frame, front * 1.25, "building")
        glowing = rng.random(len(quads)) < (0.06 if street.sunny else 0.2)
        canvas.fill(quads[~glowing], pane * (0.8 if floor == 0 else 1.0), "building")
        canvas.fill(quads[glowing], lit, "building")
    if rng.random() < 0.4:
        cloth, out = pick(rng, ((170, 40, 44), (40, 90, 70), (230, 220, 200), (40, 60, 120))), x - side * 1.0
        awning = [[x, storey * 0.98, z0 + 0.5], [x, storey * 0.98, z1 - 0.5], [out, storey * 0.8, z1 - 0.5],
                  [out, storey * 0.8, z0 + 0.5]]  # fmt: skip
        canvas.fill(awning, cloth, "building")
    across = np.arange(1.2, 9, 2.6)
    sides = [[[x + side * (a + dx), floor * storey + dy, z0] for dx, dy in ((0, 1), (1.1, 1), (1.1, 2.3), (0, 2.3))]
             for a in across for floor in range(floors)]  # fmt: skip
    canvas.fill(sides, pane, "building")
