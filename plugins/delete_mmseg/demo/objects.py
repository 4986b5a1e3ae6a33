"""Objects in a street: cars, people, trees, bins, and poles with signs and lights."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Colour, Scene, front, ground

_PAINTS = (
    (196, 30, 38), (28, 62, 140), (236, 236, 232), (30, 31, 35), (150, 154, 160), (98, 102, 108), (214, 170, 32),
    (34, 98, 62), (120, 24, 40), (70, 140, 190), (205, 98, 30), (190, 180, 160),
)  # fmt: skip
_CLOTHES = (
    (180, 40, 40), (40, 60, 120), (235, 230, 220), (35, 35, 40), (220, 180, 50), (60, 120, 80), (150, 90, 150),
    (230, 120, 60), (110, 150, 190), (120, 100, 80),
)  # fmt: skip
_SKIN = ((241, 206, 180), (214, 166, 128), (160, 112, 80), (104, 70, 50))
_HAIR = ((40, 28, 20), (90, 62, 36), (190, 160, 100), (120, 118, 116))

# length, width, height, height of bonnet, boot length, bonnet length, rake of rear window, rake of windscreen
_BODIES = np.array([
    (4.6, 1.8, 1.45, 0.95, 0.75, 1.15, 0.65, 0.75),  # saloon
    (3.8, 1.7, 1.5, 0.95, 0.1, 0.95, 0.35, 0.65),  # hatchback
    (4.6, 1.8, 1.5, 0.95, 0.1, 1.15, 0.4, 0.7),  # estate
    (4.5, 1.95, 1.8, 1.1, 0.1, 1.1, 0.3, 0.5),  # SUV
    (4.7, 1.95, 1.95, 1.15, 0.05, 0.75, 0.15, 0.6),  # MPV
    (4.3, 1.8, 1.28, 0.85, 0.5, 1.4, 0.9, 0.8),  # coupe
])  # fmt: skip
_RIM = np.linspace(0, 2 * np.pi, 15)[:-1]
# Strips of a car's outline, from the tail over the roof to the nose.
_TAIL, _NOSE, _WINDOWS, _LEVEL = 0, 8, (3, 5), (2, 4, 6)


def draw_car(scene: Scene, x: float, z: float, yaw: float) -> None:
    """Draw a car whose middle stands at (x, z). Yaw in radians: 0 drives away from the camera, pi/2 to the right."""
    rng = scene.rng
    body = _BODIES[rng.integers(len(_BODIES))] * rng.uniform(0.94, 1.06)
    length, width, height, belt, boot, bonnet, rear_rake, front_rake = body
    paint, tail, nose, floor = scene.pick(_PAINTS), -length / 2, length / 2, 0.28
    glass = np.array([52, 62, 74]) + rng.uniform(-18, 30)
    # The side view, from the tail over the roof to the nose: (along, up), and how much narrower the car is up there.
    outline = np.array([
        [tail + 0.08, floor], [tail, belt - 0.1], [tail + 0.05, belt], [tail + boot, belt],
        [tail + boot + rear_rake, height], [nose - bonnet - front_rake, height], [nose - bonnet, belt],
        [nose - 0.12, belt - 0.16], [nose, belt - 0.35], [nose - 0.05, floor],
    ])  # fmt: skip
    half = np.where(outline[:, 1] > belt + 0.01, 0.39, 0.5) * width
    rear_axle, front_axle = tail + 0.19 * length, nose - 0.18 * length
    eye = np.array([0.0, scene.eye, 0.0])

    def place(along: ArrayLike, across: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
        along, across, up = np.broadcast_arrays(along, across, up)
        cos, sin = np.cos(yaw), np.sin(yaw)
        return np.stack([x + along * sin + across * cos, up, z + along * cos - across * sin], axis=-1)

    left, right = (place(outline[:, 0], sign * half, outline[:, 1]) for sign in (-1, 1))
    below = place([tail, nose, nose, tail], width * np.array([-0.5, -0.5, 0.5, 0.5]), 0.0)
    scene.shade(below, 0.4)
    scene.shade(below + np.array([-0.5 * scene.sun, 0.0, 0.0]), 0.65)
    for sign in (-1, 1):  # the ends of the tyres, below the bumpers
        for axle in (rear_axle - 0.3, front_axle + 0.3):
            tyre = place(axle, sign * width * np.array([0.3, 0.47, 0.47, 0.3]), [0, 0, 0.3, 0.3])
            scene.fill(tyre, [18, 18, 20], "car")
    strips = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    to_eye = eye - strips.mean(1)
    facing = (np.cross(right[:-1] - left[:-1], left[1:] - left[:-1]) * to_eye).sum(1) < 0
    for index in sorted(np.flatnonzero(facing), key=lambda index: -np.linalg.norm(to_eye[index])):
        strip, light = strips[index], 0.8 if index in (_TAIL, _NOSE) else 1.12 if index in _LEVEL else 0.95
        scene.fill(strip, (glass if index in _WINDOWS else paint) * light, "car")
        if index in _WINDOWS:  # a reflection of the sky
            scene.fill(strip[[0, 1, 2]] * 0.6 + strip[[1, 1, 2]] * 0.4, glass * 1.25, "car")
        if index in (_TAIL, _NOSE):
            _draw_end(scene, strip, index == _TAIL, paint)
    for sign, side in ((-1, left), (1, right)):
        outward = place(0.0, sign, 0.0) - [x, 0, z]
        if outward @ (eye - side.mean(0)) <= 0:
            continue
        light = 1.0 if outward[0] * scene.sun > 0 else 0.72
        scene.fill(side[[0, 1, 2, 3, 6, 7, 8, 9]], paint * light, "car")
        scene.fill(side[[3, 4, 5, 6]], paint * light * 0.9, "car")
        window = side[[3, 4, 5, 6]] * 0.8 + side[[3, 4, 5, 6]].mean(0) * 0.2
        scene.fill(window, glass, "car")
        middle = (window[[0, 1]] + window[[3, 2]]) / 2
        scene.bar(middle[0], middle[1], 0.08, paint * light * 0.8, "car")
        for axle in (rear_axle, front_axle):
            for radius, colour in ((0.34, [20, 20, 22]), (0.19, [148, 150, 154]), (0.07, [60, 60, 64])):
                wheel = place(axle + radius * np.cos(_RIM), sign * width * 0.49, 0.34 + radius * np.sin(_RIM))
                scene.fill(wheel, colour, "car")


def _draw_end(scene: Scene, strip: NDArray, rear: bool, paint: Colour) -> None:
    """Draw lights, plate and bumper on the tail or nose: `strip` is bottom left, top left, top right, bottom right."""
    bottom, top = (strip[[0, 3]], strip[[1, 2]]) if rear else (strip[[1, 2]], strip[[0, 3]])

    def spot(u0: float, u1: float, v0: float, v1: float) -> NDArray:
        u, v = np.array([u0, u0, u1, u1])[:, None], np.array([v0, v1, v1, v0])[:, None]
        low, high = (edge[0] + (edge[1] - edge[0]) * u for edge in (bottom, top))
        return low * (1 - v) + high * v

    scene.fill(spot(0.0, 1.0, 0.0, 0.25), paint * 0.35, "car")
    for u in (0.03, 0.77):
        scene.fill(spot(u, u + 0.2, 0.62, 0.92), [215, 26, 30] if rear else [250, 246, 214], "car")
    scene.fill(spot(0.37, 0.63, 0.38, 0.55), [232, 230, 210], "car")
    if not rear:
        scene.fill(spot(0.28, 0.72, 0.6, 0.88), [34, 36, 40], "car")


def draw_person(scene: Scene, x: float, z: float) -> None:
    """Draw a person who stands or walks at (x, z); the proportions are of a body of one metre, scaled."""
    rng = scene.rng
    tall = rng.uniform(1.45, 1.95) if rng.random() > 0.15 else rng.uniform(1.0, 1.4)
    wide = tall * rng.uniform(0.9, 1.25)
    shirt, trousers = scene.pick(_CLOTHES), scene.pick(_CLOTHES) * 0.75
    skin, hair = scene.pick(_SKIN, 5), scene.pick(_HAIR, 6)

    def at(across: float, up: float) -> list[float]:
        return [x + across * wide, up * tall, z]

    shadow = [[x + dx * wide, 0, z + dz] for dx, dz in ((-0.14, -0.15), (0.16, -0.15), (0.2, 0.2), (-0.12, 0.2))]
    scene.shade(shadow, 0.55)
    stride, swing = rng.uniform(0.0, 0.13), rng.uniform(-0.06, 0.06)
    for side in (-1, 1):
        scene.bar(at(0.045 * side, 0.5), at(side * stride + 0.02 * side, 0.02), 0.095 * wide, trousers, "person")
        scene.bar(at(side * stride, 0.025), at(side * stride + 0.06, 0.02), 0.05 * tall, [30, 26, 24], "person")
    hem, low = (0.13, 0.38) if rng.random() < 0.2 else (0.085, 0.47)
    coat = [at(-0.11, 0.82), at(0.11, 0.82), at(hem, low), at(-hem, low)]
    scene.fill(coat, shirt, "person")
    scene.fill([coat[0], at(-0.02, 0.82), at(-0.01, 0.47), coat[3]], shirt * 0.85, "person")
    for side in (-1, 1):
        hand = at(side * 0.15 + swing, 0.47)
        scene.bar(at(side * 0.1, 0.8), hand, 0.055 * wide, shirt * (0.9 if side < 0 else 1.0), "person")
        scene.disc(hand, (0.03 * wide, 0.025 * tall), skin, "person")
    if rng.random() < 0.25:
        scene.fill([at(0.1, 0.5), at(0.22, 0.5), at(0.21, 0.33), at(0.11, 0.33)], scene.pick(_CLOTHES), "person")
    scene.bar(at(0, 0.8), at(0, 0.9), 0.06 * wide, skin * 0.9, "person")
    scene.disc(at(0, 0.935), (0.058 * wide, 0.068 * tall), hair, "person")
    scene.disc(at(rng.uniform(-0.015, 0.015), 0.92), (0.046 * wide, 0.052 * tall), skin, "person")


def draw_tree(scene: Scene, x: float, z: float) -> None:
    """Draw a tree at (x, z): a round crown or a conifer, in a season's colour."""
    rng, sun = scene.rng, scene.sun
    tall = rng.uniform(4, 9)
    leaf = scene.pick(((62, 112, 44), (84, 134, 52), (44, 90, 50), (108, 130, 58), (150, 110, 44)), 8)
    scene.shade(ground(x - 1.2, x + 1.2, z - 0.6, z + 0.9), 0.6)
    scene.bar([x, 0, z], [x + rng.uniform(-0.2, 0.2), tall * 0.55, z], tall * 0.045, [84, 64, 46], "vegetation")
    if rng.random() < 0.25:
        for step in np.linspace(0.16, 0.75, 5):
            wide, base = tall * 0.3 * (1.05 - step), tall * step
            tip = [x, base + tall * 0.32, z]
            scene.fill([[x - wide, base, z], tip, [x + wide, base, z]], leaf * 0.7, "vegetation")
            scene.fill([[x, base, z], tip, [x + wide * sun, base, z]], leaf * 0.95, "vegetation")
        return
    radius = tall * rng.uniform(0.22, 0.32)
    for step in range(26):
        angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        across = radius * (away * np.cos(angle) + sun * 0.012 * step)
        up = tall * 0.68 + radius * (away * np.sin(angle) + 0.01 * step)
        blob = radius * rng.uniform(0.3, 0.5) * (1.15 - 0.02 * step)
        scene.disc([x + across, up, z], (blob, blob * 0.85), leaf * (0.68 + 0.5 * step / 26), "vegetation")


def draw_bush(scene: Scene, x: float, z: float, tall: float) -> None:
    """Draw a bush about `tall` metres high at (x, z)."""
    rng = scene.rng
    leaf = scene.pick(((58, 104, 44), (74, 120, 52), (96, 124, 56)), 8)
    for step in range(10):
        spot = [x + rng.uniform(-0.8, 0.8) * tall, tall * rng.uniform(0.25, 0.7), z]
        scene.disc(spot, (tall * rng.uniform(0.3, 0.5), tall * 0.32), leaf * (0.7 + 0.05 * step), "vegetation")


def draw_bin(scene: Scene, x: float, z: float) -> None:
    """Draw a litter bin, void in Cityscapes: its pixels are ignored."""
    colour = np.array([[52, 84, 60], [60, 62, 66], [150, 96, 40]][scene.rng.integers(3)])
    tall = scene.rng.uniform(0.8, 1.1)
    scene.bar([x, 0, z], [x, tall, z], 0.55, colour, "static")
    scene.bar([x, tall, z], [x, tall + 0.08, z], 0.62, colour * 0.6, "static")


def draw_pole(scene: Scene, x: float, z: float, kind: str) -> None:
    """Draw a pole at (x, z) that carries a 'lamp', a 'sign' or a traffic 'light'; the arm points to the road."""
    rng = scene.rng
    metal, inward = scene.pick(((122, 126, 130), (84, 88, 92), (150, 150, 146)), 6), -np.sign(x)
    tall = {"lamp": rng.uniform(5, 8), "sign": rng.uniform(2.3, 3.2), "light": rng.uniform(3.0, 4.2)}[kind]
    scene.bar([x, 0, z], [x, tall, z], 0.2 if kind == "lamp" else 0.16, metal, "pole")
    if kind == "lamp":
        tip = [x + inward * 1.4, tall + 0.25, z]
        scene.bar([x, tall, z], tip, 0.11, metal, "pole")
        scene.bar(tip, [x + inward * 2.0, tall + 0.25, z], 0.24, [226, 224, 200], "pole")
    elif kind == "light":
        scene.fill(front(x - 0.26, x + 0.26, tall, tall + 1.25, z), [26, 28, 30], "traffic light")
        on = rng.integers(3)
        for lamp, colour in enumerate(([60, 220, 110], [250, 190, 40], [240, 40, 40])):
            glow = np.array(colour) * (1.0 if lamp == on else 0.3)
            scene.disc([x, tall + 0.24 + 0.38 * lamp, z], (0.15, 0.15), glow, "traffic light")
    else:
        _draw_sign(scene, x, tall, z)


def _draw_sign(scene: Scene, x: float, up: float, z: float) -> None:
    red, white, label = [205, 30, 36], [244, 244, 240], "traffic sign"
    shape, radius = scene.rng.integers(4), scene.rng.uniform(0.38, 0.52)
    if shape == 0:  # a limit
        scene.disc([x, up, z], (radius, radius), red, label)
        scene.disc([x, up, z], (radius * 0.7, radius * 0.7), white, label)
    elif shape == 1:  # a warning
        for side, colour in ((radius, red), (0.6 * radius, white)):
            low = up - side * 0.7
            scene.fill([[x - side, low, z], [x + side, low, z], [x, up + side, z]], colour, label)
    else:
        colour = [[24, 74, 160], [20, 110, 70], [236, 190, 30]][scene.rng.integers(3)]
        wide, tall, pale = radius * (0.85 if shape == 2 else 1.6), radius * 0.8, [240, 240, 240]
        for share, paint in ((1.0, pale), (0.86, colour)):
            scene.fill(front(x - share * wide, x + share * wide, up - share * tall, up + share * tall, z), paint, label)
        scene.fill(front(x - wide * 0.4, x + wide * 0.4, up - 0.06, up + 0.06, z), pale, label)
