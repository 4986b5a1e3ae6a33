"""Street scenes drawn from a seed, with pixel-exact labels, in the folders of Cityscapes.

They stand in for a dataset where none may be downloaded. Everything that a network could use as a shortcut varies:
time of day, haze, noise, where the street runs, what stands in it, in which size and colour, and what hides what.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import LABEL_IDS, Canvas
from .objects import draw_bush, draw_car, draw_person, draw_pole, draw_tree
from .street import Street, draw_ground, draw_side, draw_sky

Draw = Callable[[Canvas, Generator], None]
# Scenes without a car, so that a forget set is less than the whole training set.
_NO_CAR = 0.2
# Painted at twice the size and averaged down: smooth edges in the picture, while a label is still one class.
_OVERSAMPLING = 2
# How grainy a surface is, in grey levels.
_GRAIN = {"vegetation": 15.0, "terrain": 10.0, "road": 6.0, "sidewalk": 5.0, "building": 4.0, "person": 3.0}


def draw_scene(
    seed: int | Sequence[int], size: tuple[int, int] = (128, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one street scene.

    Args:
        seed: Number or numbers that decide everything in the scene.
        size: (height, width) in pixels.

    Returns:
        The picture, RGB (height, width, 3), and the Cityscapes labelIds (height, width), both uint8.

    Raises:
        ValueError: If a side is shorter than 16 pixels.
    """
    if min(size) < 16:
        raise ValueError(f"a scene needs at least 16x16 pixels, got {size[0]}x{size[1]}: give a larger size")
    rng = np.random.default_rng(seed)
    height, width = (side * _OVERSAMPLING for side in size)
    street = Street.random(rng, height, width)
    canvas = Canvas(height, width, street.camera, street.haze, street.visibility)
    draw_sky(canvas, rng, street)
    draw_ground(canvas, rng, street)
    for side in (-1, 1):
        draw_side(canvas, rng, street, side)
    _draw_things(canvas, rng, street)
    if rng.random() < 0.15:
        _draw_bonnet(canvas, rng)
    rgb = _photograph(canvas, rng, street)
    small = (size[1], size[0])
    labels = cv2.resize(canvas.labels, small, interpolation=cv2.INTER_NEAREST)
    if rgb.shape[:2] != size:
        rgb = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
    return rgb, np.asarray(labels, np.uint8)


def _draw_things(canvas: Canvas, rng: Generator, street: Street) -> None:
    """Place what stands or moves in the street and draw it far to near, so that the near hides the far."""
    left, right = street.kerbs
    things: list[tuple[float, Draw]] = []
    if rng.random() >= _NO_CAR:
        things += _place_cars(rng, street)
    for side, kerb in ((-1, left), (1, right)):
        edge = street.edge(side)
        for z in np.arange(rng.uniform(5, 9), 28, rng.uniform(7, 13)):
            x, choice = kerb + side * 0.5, rng.random()
            if choice < 0.55:
                kind = str(rng.choice(["lamp", "sign", "sign", "light"]))
                things.append((z, partial(draw_pole, x=x, z=z, kind=kind)))
            elif choice < 0.8:
                things.append((z, partial(draw_tree, x=x, z=z, sun=street.sun)))
            else:
                things.append((z, partial(_draw_bin, x=x, z=z)))
        for _ in range(rng.integers(0, 5)):
            z = rng.uniform(4.5, 21)
            x = rng.uniform(min(kerb, edge), max(kerb, edge))
            things.append((z, partial(draw_person, x=x, z=z)))
        if rng.random() < 0.3:
            z = rng.uniform(5, 20)
            things.append((z, partial(draw_bush, x=edge, z=z, tall=rng.uniform(0.8, 1.4))))
    for _ in range(rng.integers(0, 3)):  # people who cross
        z = rng.uniform(6, 20)
        things.append((z, partial(draw_person, x=rng.uniform(left, right), z=z)))
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw(canvas, rng)


def _place_cars(rng: Generator, street: Street) -> list[tuple[float, Draw]]:
    left, right = street.kerbs
    lane = (right - left) / 4
    rows = [(left + lane, np.pi, 0.75), (right - lane, 0.0, 0.75)]
    if right - left > 8.5:  # room to park
        rows = [(left + lane * 1.25, np.pi, 0.6), (right - lane * 1.25, 0.0, 0.6)]
        rows += [(left + 1.15, rng.choice([0.0, np.pi]), 0.65), (right - 1.15, rng.choice([0.0, np.pi]), 0.65)]
    cars: list[tuple[float, Draw]] = []
    for x, yaw, share in rows:
        if rng.random() > share:
            continue
        z, gap = rng.uniform(6.5, 24), rng.choice([1.2, 3.0, 8.0])
        while z < 60:
            if rng.random() < 0.75:
                turn = yaw + rng.normal(0, 0.05)
                cars.append((z, partial(draw_car, x=x + rng.normal(0, 0.15), z=z, yaw=turn, sun=street.sun)))
            z += 4.9 + rng.uniform(0.3, 2) * gap
    if rng.random() < 0.22 or not cars:  # one that turns or crosses
        z = rng.uniform(7, 22)
        cars = [car for car in cars if abs(car[0] - z) > 5]
        x, yaw = rng.uniform(left + 1, right - 1), rng.choice([-1, 1]) * rng.uniform(0.8, 2.2)
        cars.append((z, partial(draw_car, x=x, z=z, yaw=yaw, sun=street.sun)))
    return cars


def _draw_bin(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw a litter bin, void in Cityscapes: its pixels are ignored."""
    colour, tall = np.array([[52, 84, 60], [60, 62, 66], [150, 96, 40]][rng.integers(3)]), rng.uniform(0.8, 1.1)
    canvas.bar([x, 0, z], [x, tall, z], 0.55, colour, "static")
    canvas.bar([x, tall, z], [x, tall + 0.08, z], 0.62, colour * 0.6, "static")


def _draw_bonnet(canvas: Canvas, rng: Generator) -> None:
    """Draw the bonnet of the car that carries the camera, void in Cityscapes as well."""
    height, width = canvas.labels.shape
    centre, radii = (int(width * rng.uniform(0.4, 0.6)), int(height * 1.08)), (int(width * 0.5), int(height * 0.16))
    cv2.ellipse(canvas.rgb, centre, radii, 0, 0, 360, (rng.uniform(20, 200, 3)).tolist(), -1)
    cv2.ellipse(canvas.labels, centre, radii, 0, 0, 360, LABEL_IDS["ego vehicle"], -1)


def _photograph(canvas: Canvas, rng: Generator, street: Street) -> NDArray[np.uint8]:
    """Add a camera's effects: grain of the surfaces, the colour of the light, exposure, a soft lens, sensor noise."""
    height, width = canvas.labels.shape
    amplitude = np.zeros(256, np.float32)
    for name, grain in _GRAIN.items():
        amplitude[LABEL_IDS[name]] = grain
    coarse = rng.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = canvas.rgb + (noise * amplitude[canvas.labels])[..., None]
    picture = cv2.resize(picture, (width // _OVERSAMPLING, height // _OVERSAMPLING), interpolation=cv2.INTER_AREA)
    picture *= (street.light * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3)).astype(np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.8))
    grey = picture.mean()
    picture = (picture - grey) * rng.uniform(0.85, 1.15) + grey
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(1, 6)
    return picture.clip(0, 255).astype(np.uint8)


def write_scenes(
    root: str | Path,
    *,
    train: int = 200,
    val: int = 60,
    size: tuple[int, int] = (128, 256),
    seed: int = 0,
) -> None:
    """Write scenes as Cityscapes is laid out: leftImg8bit/{train,val}/demo/demo_000000_000019_leftImg8bit.png etc.

    The two splits share no scene, and a scene depends on (seed, split, index) alone: more scenes leave the first
    ones as they are.

    Args:
        root: Folder to write into, made if missing; files of the same name are replaced.
        train: Scenes in the train split.
        val: Scenes in the val split.
        size: (height, width) in pixels.
        seed: Another seed gives another set.

    Raises:
        OSError: If a file cannot be written.
        ValueError: As `draw_scene`.
    """
    root = Path(root)
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / split / "demo").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            _write_scene(root, split, (seed, number), size, index)


def _write_scene(root: Path, split: str, seed: tuple[int, int], size: tuple[int, int], index: int) -> None:
    rgb, labels = draw_scene((*seed, index), size)
    stem = f"{split}/demo/demo_{index:06d}_000019"
    pictures = {f"leftImg8bit/{stem}_leftImg8bit.png": rgb[..., ::-1], f"gtFine/{stem}_gtFine_labelIds.png": labels}
    for name, pixels in pictures.items():
        if not cv2.imwrite(str(root / name), np.ascontiguousarray(pixels)):
            raise OSError(f"cannot write {root / name}: is there room on the disk, and may this user write there?")
