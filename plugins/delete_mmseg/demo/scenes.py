"""Street scenes drawn from a seed, with pixel-exact labels, in the folders of Cityscapes, as a stand-in for a dataset. Everything
that a network could use as a shortcut varies: time of day, haze, noise, where the street runs, what stands in it, in which size
and colour, and what hides what."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from delete_tasks.fileio.atomic import replacing

from .canvas import LABEL_IDS, Scene, front, ground, wall
from .objects import draw_bin, draw_bush, draw_car, draw_person, draw_pole, draw_tree

FAR = 110.0
NEAR = 1.0

_WALLS = (
    (172, 92, 72), (196, 172, 140), (214, 206, 190), (150, 146, 142), (184, 150, 104), (122, 104, 94), (204, 184, 176),
    (140, 110, 84), (168, 176, 180), (190, 120, 90),
)  # fmt: skip
_ROOFS = ((134, 66, 52), (88, 84, 84), (112, 72, 56), (70, 74, 84))

# Scenes without a car, so that a forget set is less than the whole training set.
_NO_CAR = 0.2
# Painted at twice the size and averaged down: smooth edges in the picture, while a label is still one class.
_OVERSAMPLING = 2
# How grainy a surface is, in grey levels.
_GRAIN = {"vegetation": 15.0, "terrain": 10.0, "road": 6.0, "sidewalk": 5.0, "building": 4.0, "person": 3.0}


def draw_scene(
    seed: int | Sequence[int], size: tuple[int, int] = (128, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a street scene of ``size`` (height, width) by its ``seed``: RGB (height, width, 3) and Cityscapes labelIds, uint8."""
    if min(size) < 16:
        raise ValueError(f"a scene needs at least 16x16 pixels, got {size[0]}x{size[1]}: give a larger size")
    height, width = size
    scene = Scene(np.random.default_rng(seed), height * _OVERSAMPLING, width * _OVERSAMPLING)
    draw_sky(scene)
    draw_ground(scene)
    for side in (-1, 1):
        draw_side(scene, side)
    # Far to near, so that the near hides the far.
    for z, draw, x, *more in sorted(_place_things(scene), key=lambda thing: -thing[0]):
        draw(scene, x, z, *more)
    if scene.rng.random() < 0.15:
        _draw_bonnet(scene)
    labels = cv2.resize(scene.labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return _photograph(scene), np.asarray(labels, np.uint8)


def _place_things(scene: Scene) -> list[tuple[Any, ...]]:
    """Place what stands or moves in the street: depth, function that draws it, X, and what else the function takes."""
    rng, (left, right) = scene.rng, scene.kerbs
    things: list[tuple[Any, ...]] = _place_cars(scene) if rng.random() >= _NO_CAR else []
    for side, kerb in ((-1, left), (1, right)):
        edge = scene.edge(side)
        for z in np.arange(rng.uniform(5, 9), 28, rng.uniform(7, 13)):
            x, choice = kerb + side * 0.5, rng.random()
            if choice < 0.55:
                things.append((z, draw_pole, x, str(rng.choice(["lamp", "sign", "sign", "light"]))))
            else:
                things.append((z, draw_tree if choice < 0.8 else draw_bin, x))
        for _ in range(rng.integers(0, 5)):
            things.append((rng.uniform(4.5, 21), draw_person, rng.uniform(min(kerb, edge), max(kerb, edge))))
        if rng.random() < 0.3:
            things.append((rng.uniform(5, 20), draw_bush, edge, rng.uniform(0.8, 1.4)))
    for _ in range(rng.integers(0, 3)):  # people who cross
        things.append((rng.uniform(6, 20), draw_person, rng.uniform(left, right)))
    return things


def _place_cars(scene: Scene) -> list[tuple[Any, ...]]:
    rng, (left, right) = scene.rng, scene.kerbs
    lane = (right - left) / 4
    lines = [(left + lane, np.pi, 0.75), (right - lane, 0.0, 0.75)]
    if right - left > 8.5:  # room to park
        lines = [(left + lane * 1.25, np.pi, 0.6), (right - lane * 1.25, 0.0, 0.6)]
        lines += [(left + 1.15, rng.choice([0.0, np.pi]), 0.65), (right - 1.15, rng.choice([0.0, np.pi]), 0.65)]
    cars: list[tuple[Any, ...]] = []
    for x, yaw, share in lines:
        if rng.random() > share:
            continue
        z, gap = rng.uniform(6.5, 24), rng.choice([1.2, 3.0, 8.0])
        while z < 60:
            if rng.random() < 0.75:
                turn = yaw + rng.normal(0, 0.05)
                cars.append((z, draw_car, x + rng.normal(0, 0.15), turn))
            z += 4.9 + rng.uniform(0.3, 2) * gap
    if rng.random() < 0.22 or not cars:  # one that turns or crosses
        z = rng.uniform(7, 22)
        cars = [car for car in cars if abs(car[0] - z) > 5]
        x, yaw = rng.uniform(left + 1, right - 1), rng.choice([-1, 1]) * rng.uniform(0.8, 2.2)
        cars.append((z, draw_car, x, yaw))
    return cars


def _draw_bonnet(scene: Scene) -> None:
    """Draw the bonnet of the car that carries the camera, void in Cityscapes."""
    rng, (height, width) = scene.rng, scene.labels.shape
    centre, radii = (int(width * rng.uniform(0.4, 0.6)), int(height * 1.08)), (int(width * 0.5), int(height * 0.16))
    cv2.ellipse(scene.rgb, centre, radii, 0, 0, 360, (rng.uniform(20, 200, 3)).tolist(), -1)
    cv2.ellipse(scene.labels, centre, radii, 0, 0, 360, LABEL_IDS["ego vehicle"], -1)


def _photograph(scene: Scene) -> NDArray[np.uint8]:
    """Add a camera's effects: grain of the surfaces, the colour of the light, exposure, a soft lens, sensor noise."""
    rng, (height, width) = scene.rng, scene.labels.shape
    amplitude = np.zeros(256, np.float32)
    amplitude[[LABEL_IDS[name] for name in _GRAIN]] = list(_GRAIN.values())
    coarse = rng.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = scene.rgb + (noise * amplitude[scene.labels])[..., None]
    picture = cv2.resize(picture, (width // _OVERSAMPLING, height // _OVERSAMPLING), interpolation=cv2.INTER_AREA)
    picture *= (scene.light * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3)).astype(np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.8))
    grey = picture.mean()
    picture = (picture - grey) * rng.uniform(0.85, 1.15) + grey
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(1, 6)
    return picture.clip(0, 255).astype(np.uint8)


def write_scenes(
    root: str | Path, *, train: int = 200, val: int = 60, size: tuple[int, int] = (128, 256), seed: int = 0
) -> None:
    """Write scenes as Cityscapes is laid out: leftImg8bit/{train,val}/demo/demo_000000_000019_leftImg8bit.png etc. The splits
    share no scene, and a scene depends on (seed, split, index) alone: more scenes leave the first ones as they are. ``train`` and
    ``val`` are numbers of scenes, ``size`` is as of :func:`draw_scene`; files of the same name are replaced."""
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        images, annotations = (Path(root, kind, split, "demo") for kind in ("leftImg8bit", "gtFine"))
        for index in range(count):
            rgb, labels = draw_scene((seed, number, index), size)
            stem = f"demo_{index:06d}_000019"
            for path, pixels in (
                (images / f"{stem}_leftImg8bit.png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)),
                (annotations / f"{stem}_gtFine_labelIds.png", labels),
            ):
                with replacing(path) as temporary:
                    temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def draw_sky(scene: Scene) -> None:
    """Draw a gradient with clouds, and a row of distant roofs and trees on the horizon."""
    rng, (height, width) = scene.rng, scene.labels.shape
    rise = np.clip(np.arange(height) / scene.horizon, 0, 1)[:, None] ** rng.uniform(0.8, 1.6)
    scene.rgb[:] = (scene.zenith * (1 - rise) + scene.haze * rise)[:, None].astype(np.uint8)
    scene.labels[:] = LABEL_IDS["sky"]
    cover = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(0, 7)):
        x, y, spread = rng.uniform(0, width), rng.uniform(0, scene.horizon * 0.75), rng.uniform(0.03, 0.09)
        for _ in range(7):
            centre = (int(x + rng.normal(0, spread * width)), int(y + rng.normal(0, spread * height * 0.4)))
            radii = (int(spread * width * rng.uniform(0.5, 1)), int(spread * height * rng.uniform(0.4, 0.9)))
            cv2.ellipse(cover, centre, radii, 0, 0, 360, 1.0, -1)
    cover = cv2.GaussianBlur(cover, (0, 0), width / 64)[..., None] * rng.uniform(0.4, 0.85)
    scene.rgb[:] = (scene.rgb * (1 - cover) + (scene.haze * 0.4 + 150) * cover).clip(0, 255).astype(np.uint8)
    x = -1.1 * FAR
    while x < 1.1 * FAR:
        wide, tall = rng.uniform(5, 18), rng.uniform(3, 16)
        if rng.random() < 0.35:
            draw_bush(scene, x + wide / 2, FAR, tall * 0.7)
        else:
            scene.fill(front(x, x + wide, 0, tall, FAR), scene.pick(_WALLS), "building")
        x += wide


def draw_ground(scene: Scene) -> None:
    """Draw grass to the horizon, pavements, the road and its markings, and the shadow of the houses."""
    rng, (left, right) = scene.rng, scene.kerbs
    grass = scene.pick(((108, 134, 66), (128, 128, 74), (92, 120, 60)), 8)
    scene.fill(ground(-400, 400, NEAR, FAR), grass, "terrain")
    slab = scene.pick(((176, 170, 162), (158, 152, 148), (186, 174, 158)), 8)
    for kerb, side in ((left, -1), (right, 1)):
        edge = scene.edge(side)
        scene.fill(ground(kerb, edge, NEAR, FAR), slab, "sidewalk")
        joints = np.arange(2, 26, rng.uniform(0.9, 1.8))
        scene.fill([ground(kerb, edge, z, z + 0.05) for z in joints], slab * 0.82, "sidewalk")
        scene.fill(ground((kerb + edge) / 2, (kerb + edge) / 2 + 0.04, NEAR, 40), slab * 0.85, "sidewalk")
        scene.fill(ground(kerb, kerb + side * 0.2, NEAR, FAR), slab * 1.16, "sidewalk")
    asphalt = np.full(3, rng.uniform(62, 122)) + rng.normal(0, 4, 3)
    scene.fill(ground(left, right, NEAR, FAR), asphalt, "road")
    for _ in range(rng.integers(0, 4)):  # repaired patches
        x, z, tone = rng.uniform(left, right - 1), rng.uniform(3, 30), asphalt * rng.uniform(0.82, 1.12)
        scene.fill(ground(x, min(x + rng.uniform(0.6, 2.5), right), z, z + rng.uniform(1, 6)), tone, "road")
    paint = np.full(3, rng.uniform(0.75, 1.0) * 236)
    if rng.random() < 0.5:
        for x in (left + 0.3, right - 0.3):
            scene.fill(ground(x - 0.07, x + 0.07, NEAR, FAR), paint, "road")
    middle, dash = (left + right) / 2, rng.uniform(2, 4)
    if rng.random() < 0.85:
        dashes = np.arange(rng.uniform(1, 4), 80, dash * 2)
        scene.fill([ground(middle - 0.08, middle + 0.08, z, z + dash) for z in dashes], paint, "road")
    if rng.random() < 0.35:  # a zebra crossing
        z = rng.uniform(5, 16)
        stripes = [ground(x, x + 0.5, z, z + 3) for x in np.arange(left + 0.4, right - 0.6, 1.0)]
        scene.fill(ground(left, right, z, z + 3), asphalt, "road")
        scene.fill(stripes, paint, "road")
    if scene.sunny:
        reach = scene.edge(scene.sun) - scene.sun * rng.uniform(1, 9)
        scene.shade(ground(scene.edge(scene.sun), reach, NEAR, FAR), rng.uniform(0.5, 0.72))


def draw_side(scene: Scene, side: int) -> None:
    """Line one side (-1 left, 1 right) of the street with houses and green gaps, far to near."""
    rng = scene.rng
    line = scene.edge(side) + side * rng.choice([0.0, 0.0, rng.uniform(1, 6)])
    green = rng.uniform(0.05, 0.45)
    z1 = FAR * 0.9
    while z1 > 5:
        z0 = max(z1 - rng.uniform(7, 20), 1.2)
        if rng.random() < green:
            for z in np.sort(rng.uniform(max(z0, 4), z1, 4))[::-1]:
                x = line + side * rng.uniform(1, 7)
                if rng.random() < 0.6:
                    draw_tree(scene, x, z)
                else:
                    draw_bush(scene, x, z, rng.uniform(0.8, 1.8))
        else:
            _draw_house(scene, side, line, z0, z1)
        z1 = z0 - (rng.uniform(1, 5) if rng.random() < 0.3 else 0)


def _draw_house(scene: Scene, side: int, x: float, z0: float, z1: float) -> None:
    rng = scene.rng
    storey, floors = rng.uniform(2.8, 3.6), rng.integers(2, 8)
    tall, colour = storey * floors, scene.pick(_WALLS)
    # Facades that look at the sun are the ones on the other side of the street.
    facade, gable = colour * (1.08 if side != scene.sun else 0.74), colour * 0.9
    deep = x + side * 12
    scene.fill(front(x, deep, 0, tall, z0), gable, "building")
    if rng.random() < 0.45:
        roof, ridge = scene.pick(_ROOFS, 6), tall + rng.uniform(1.5, 3.5)
        mid = (x + deep) / 2
        scene.fill([[x, tall, z0], [deep, tall, z0], [mid, ridge, z0]], gable, "building")
        scene.fill([[x, tall, z0], [x, tall, z1], [mid, ridge, z1], [mid, ridge, z0]], roof, "building")
    scene.fill(wall(x, 0, tall, z0, z1), facade, "building")
    scene.fill(wall(x, tall - 0.3, tall, z0, z1), facade * 0.7, "building")
    pane = np.array([66, 78, 94]) + rng.uniform(-20, 60)
    pitch, wide, high = rng.uniform(1.9, 3.2), rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.65)
    columns = np.arange(z0 + 0.5, z1 - pitch * wide - 0.2, pitch)
    for floor in range(floors if len(columns) else 0):  # a shop or doors below, windows above
        bottom = floor * storey + (0.9 if floor else 0.3)
        top = bottom + storey * (high if floor else 0.7)
        panes = np.array([wall(x, bottom, top, z, z + pitch * wide) for z in columns])
        frames = panes + np.array([[0, -0.12, -0.1], [0, -0.12, 0.1], [0, 0.1, 0.1], [0, 0.1, -0.1]])
        scene.fill(frames, facade * 1.25, "building")
        lit = rng.random(len(panes)) < (0.06 if scene.sunny else 0.2)
        scene.fill(panes[~lit], pane * (1.0 if floor else 0.8), "building")
        scene.fill(panes[lit], [244, 214, 140], "building")
    if rng.random() < 0.4:
        cloth, out = scene.pick(((170, 40, 44), (40, 90, 70), (230, 220, 200), (40, 60, 120))), x - side * 1.0
        high, low = storey * 0.98, storey * 0.8
        awning = [[x, high, z0 + 0.5], [x, high, z1 - 0.5], [out, low, z1 - 0.5], [out, low, z0 + 0.5]]
        scene.fill(awning, cloth, "building")
    windows = [
        front(x + side * across, x + side * (across + 1.1), floor * storey + 1, floor * storey + 2.3, z0)
        for across in np.arange(1.2, 9, 2.6)
        for floor in range(floors)
    ]
    scene.fill(windows, pane, "building")
