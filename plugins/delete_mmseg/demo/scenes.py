"""Street scenes drawn from a seed, with pixel-exact labels, in the folders of Cityscapes.

They stand in for a dataset where none may be downloaded. Everything that a network could use as a shortcut varies:
time of day, haze, noise, where the street runs, what stands in it, in which size and colour, and what hides what.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from delete_tasks.fileio.atomic import replacing

from .canvas import LABEL_IDS, Scene
from .objects import draw_bin, draw_bush, draw_car, draw_person, draw_pole, draw_tree
from .street import draw_ground, draw_side, draw_sky

# Scenes without a car, so that a forget set is less than the whole training set.
_NO_CAR = 0.2
# Painted at twice the size and averaged down: smooth edges in the picture, while a label is still one class.
_OVERSAMPLING = 2
# How grainy a surface is, in grey levels.
_GRAIN = {"vegetation": 15.0, "terrain": 10.0, "road": 6.0, "sidewalk": 5.0, "building": 4.0, "person": 3.0}


def draw_scene(
    seed: int | Sequence[int], size: tuple[int, int] = (128, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one street scene of ``size`` (height, width), 16 pixels or more each, in which ``seed`` decides everything: the
    picture, RGB (height, width, 3), and the Cityscapes labelIds (height, width), both uint8."""
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
    rgb = _photograph(scene)
    labels = cv2.resize(scene.labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return rgb, np.asarray(labels, np.uint8)


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
    """Write scenes as Cityscapes is laid out: leftImg8bit/{train,val}/demo/demo_000000_000019_leftImg8bit.png etc.

    The two splits share no scene, and a scene depends on (seed, split, index) alone: more scenes leave the first ones as they
    are. ``train`` and ``val`` are numbers of scenes, ``size`` is as of :func:`draw_scene`. The folder ``root`` is made if
    missing, and files of the same name are replaced.
    """
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
