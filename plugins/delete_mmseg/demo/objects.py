"""Objects in a street: cars, people, trees, poles with signs and lights. All sizes are in metres."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import Canvas, Colour

_PAINTS = (
    (196, 30, 38), (28, 62, 140), (236, 236, 232), (30, 31, 35), (150, 154, 160), (98, 102, 108), (214, 170, 32),
    (34, 98, 62), (120, 24, 40), (70, 140, 190), (205, 98, 30), (190, 180, 160),
)  # fmt: skip
_CLOTHES = (
    (180, 40, 40), (40, 60, 120), (235, 230, 220), (35, 35, 40), (220, 180, 50), (60, 120, 80), (150, 90, 150),
    (230, 120, 60), (110, 150, 190), (120, 100, 80),
)  # fmt: skip
_SKIN = ((241, 206, 180), (214, 166, 128), (160, 112, 80), (104, 70, 50))

# name: length, width, height, height of bonnet, boot length, bonnet length, rake of rear window, rake of windscreen
_BODIES = {
    "saloon": (4.6, 1.8, 1.45, 0.95, 0.75, 1.15, 0.65, 0.75),
    "hatchback": (3.8, 1.7, 1.5, 0.95, 0.1, 0.95, 0.35, 0.65),
    "estate": (4.6, 1.8, 1.5, 0.95, 0.1, 1.15, 0.4, 0.7),
    "suv": (4.5, 1.95, 1.8, 1.1, 0.1, 1.1, 0.3, 0.5),
    "mpv": (4.7, 1.95, 1.95, 1.15, 0.05, 0.75, 0.15, 0.6),
    "coupe": (4.3, 1.8, 1.28, 0.85, 0.5, 1.4, 0.9, 0.8),
}


def pick(rng: Generator, colours: tuple[tuple[int, int, int], ...], spread: float = 12.0) -> Colour:
    """Choose one of the RGB colours and change it a little."""
    return (np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3)).clip(5, 250)


def draw_car(canvas: Canvas, rng: Generator, x: float, z: float, yaw: float, sun: float) -> None:
    """Draw a car whose middle stands at (x, z).

    Args:
        canvas: Painted in place.
        rng: Decides shape and colours.
        x: Metres to the right.
        z: Metres ahead.
        yaw: Radians; 0 drives away from the camera, pi towards it, pi/2 to the right.
        sun: -1 or 1, the side the light comes from.
    """
    size = np.array(_BODIES[tuple(_BODIES)[rng.integers(len(_BODIES))]]) * rng.uniform(0.94, 1.06)
    length, width, height, belt, boot, bonnet, rear_rake, front_rake = size
    paint, tail, nose, floor = pick(rng, _PAINTS), -length / 2, length / 2, 0.28
    glass = np.array([52, 62, 74]) + rng.uniform(-18, 30)
    # The side view, from the tail over the roof to the nose: (along, up), and how much narrower the car is up there.
    outline = np.array([
        [tail + 0.08, floor], [tail, belt - 0.1], [tail + 0.05, belt], [tail + boot, belt],
        [tail + boot + rear_rake, height], [nose - bonnet - front_rake, height], [nose - bonnet, belt],
        [nose - 0.12, belt - 0.16], [nose, belt - 0.35], [nose - 0.05, floor],
    ])  # fmt: skip
    half = np.where(outline[:, 1] > belt + 0.01, 0.39, 0.5) * width

    def place(along: NDArray, across: NDArray, up: NDArray) -> NDArray[np.float64]:
        cos, sin = np.cos(yaw), np.sin(yaw)
        return np.stack([x + along * sin + across * cos, up + 0 * along, z + along * cos - across * sin], axis=-1)

    left, right = (place(outline[:, 0], sign * half, outline[:, 1]) for sign in (-1, 1))
    eye = np.array([0.0, canvas.camera.eye, 0.0])
    ground = place(np.array([tail, nose, nose, tail]), width * np.array([-0.5, -0.5, 0.5, 0.5]), np.zeros(4))
    canvas.shade(ground, 0.4)
    canvas.shade(ground + np.array([-0.5 * sun, 0.0, 0.0]), 0.65)
    for sign in (-1, 1):  # the ends of the tyres, below the bumpers
        for axle in (tail + 0.19 * length - 0.3, nose - 0.18 * length + 0.3):
            tread = [(sign * width * share, up) for share, up in ((0.3, 0), (0.47, 0), (0.47, 0.3), (0.3, 0.3))]
            tyre = np.stack([place(np.array([axle]), np.array([a]), np.array([u]))[0] for a, u in tread])
            canvas.fill(tyre, [18, 18, 20], "car")
    parts = ["panel", "panel", "panel", "glass", "panel", "glass", "panel", "panel", "panel"]
    strips = []
    for index, part in enumerate(parts):
        quad = np.stack([left[index], left[index + 1], right[index + 1], right[index]])
        normal = np.cross(right[index] - left[index], left[index + 1] - left[index])
        if normal @ (eye - quad.mean(0)) < 0:
            strips.append((float(np.linalg.norm(quad.mean(0) - eye)), index, quad, part))
    for _, index, quad, part in sorted(strips, key=lambda strip: -strip[0]):
        light = 0.8 if index in (0, 8) else 1.12 if index in (2, 4, 6) else 0.95
        canvas.fill(quad, (glass if part == "glass" else paint) * light, "car")
        if part == "glass":  # a reflection of the sky
            canvas.fill(quad[[0, 1, 2]] * 0.6 + quad[[1, 1, 2]] * 0.4, glass * 1.25, "car")
        if index in (0, 8):
            _draw_face(canvas, quad, rear=index == 0, paint=paint)
    for sign, side in ((-1, left), (1, right)):
        outward = place(np.zeros(1), np.array([float(sign)]), np.zeros(1))[0] - [x, 0, z]
        if outward @ (eye - side.mean(0)) <= 0:
            continue
        light = 1.0 if outward[0] * sun > 0 else 0.72
        canvas.fill(side[[0, 1, 2, 3, 6, 7, 8, 9]], paint * light, "car")
        canvas.fill(side[[3, 4, 5, 6]], paint * light * 0.9, "car")
        window = side[[3, 4, 5, 6]] * 0.8 + side[[3, 4, 5, 6]].mean(0) * 0.2
        canvas.fill(window, glass, "car")
        middle = (window[[0, 1]] + window[[3, 2]]) / 2
        canvas.bar(middle[0], middle[1], 0.08, paint * light * 0.8, "car")
        _draw_wheels(canvas, place, sign * width * 0.49, tail + 0.19 * length, nose - 0.18 * length)


def _draw_face(canvas: Canvas, quad: NDArray, rear: bool, paint: Colour) -> None:
    """Lights, plate and bumper on the tail or the nose: `quad` is bottom left, top left, top right, bottom right."""

    def spot(u0: float, u1: float, v0: float, v1: float) -> NDArray:
        corners = [(u0, v0), (u0, v1), (u1, v1), (u1, v0)]
        bottom, top = (lambda u: quad[0] + (quad[3] - quad[0]) * u), (lambda u: quad[1] + (quad[2] - quad[1]) * u)
        if not rear:
            bottom, top = top, bottom
        return np.stack([bottom(u) * (1 - v) + top(u) * v for u, v in corners])

    canvas.fill(spot(0.0, 1.0, 0.0, 0.25), paint * 0.35, "car")
    for u in (0.03, 0.77):
        canvas.fill(spot(u, u + 0.2, 0.62, 0.92), [215, 26, 30] if rear else [250, 246, 214], "car")
    canvas.fill(spot(0.37, 0.63, 0.38, 0.55), [232, 230, 210], "car")
    if not rear:
        canvas.fill(spot(0.28, 0.72, 0.6, 0.88), [34, 36, 40], "car")


def _draw_wheels(canvas: Canvas, place, across: float, *axles: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 15)[:-1]
    for axle in axles:
        for radius, colour in ((0.34, [20, 20, 22]), (0.19, [148, 150, 154]), (0.07, [60, 60, 64])):
            rim = place(axle + radius * np.cos(angle), across, 0.34 + radius * np.sin(angle))
            canvas.fill(rim, colour, "car")


def draw_person(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw somebody who stands or walks at (x, z); the proportions are of a body of one metre, scaled."""
    tall = rng.uniform(1.45, 1.95) if rng.random() > 0.15 else rng.uniform(1.0, 1.4)
    wide = tall * rng.uniform(0.9, 1.25)
    shirt, trousers, skin = pick(rng, _CLOTHES), pick(rng, _CLOTHES) * 0.75, pick(rng, _SKIN, 5)
    hair = pick(rng, ((40, 28, 20), (90, 62, 36), (190, 160, 100), (120, 118, 116)), 6)

    def at(across: float, up: float) -> list[float]:
        return [x + across * wide, up * tall, z]

    ground = [[x + dx * wide, 0, z + dz] for dx, dz in ((-0.14, -0.15), (0.16, -0.15), (0.2, 0.2), (-0.12, 0.2))]
    canvas.shade(ground, 0.55)
    stride, swing = rng.uniform(0.0, 0.13), rng.uniform(-0.06, 0.06)
    for side in (-1, 1):
        canvas.bar(at(0.045 * side, 0.5), at(side * stride + 0.02 * side, 0.02), 0.095 * wide, trousers, "person")
        canvas.bar(at(side * stride, 0.025), at(side * stride + 0.06, 0.02), 0.05 * tall, [30, 26, 24], "person")
    skirt = rng.random() < 0.2
    hem = 0.13 if skirt else 0.085
    coat = [at(-0.11, 0.82), at(0.11, 0.82), at(hem, 0.38 if skirt else 0.47), at(-hem, 0.38 if skirt else 0.47)]
    canvas.fill(coat, shirt, "person")
    canvas.fill([coat[0], at(-0.02, 0.82), at(-0.01, 0.47), coat[3]], shirt * 0.85, "person")
    for side in (-1, 1):
        hand = at(side * 0.15 + swing, 0.47)
        canvas.bar(at(side * 0.1, 0.8), hand, 0.055 * wide, shirt * (0.9 if side < 0 else 1.0), "person")
        canvas.disc(hand, (0.03 * wide, 0.025 * tall), skin, "person")
    if rng.random() < 0.25:
        canvas.fill([at(0.1, 0.5), at(0.22, 0.5), at(0.21, 0.33), at(0.11, 0.33)], pick(rng, _CLOTHES), "person")
    canvas.bar(at(0, 0.8), at(0, 0.9), 0.06 * wide, skin * 0.9, "person")
    canvas.disc(at(0, 0.935), (0.058 * wide, 0.068 * tall), hair, "person")
    canvas.disc(at(rng.uniform(-0.015, 0.015), 0.92), (0.046 * wide, 0.052 * tall), skin, "person")


def draw_tree(canvas: Canvas, rng: Generator, x: float, z: float, sun: float) -> None:
    """Draw a tree at (x, z): a round crown or a conifer, in a season's colour."""
    tall = rng.uniform(4, 9)
    leaf = pick(rng, ((62, 112, 44), (84, 134, 52), (44, 90, 50), (108, 130, 58), (150, 110, 44)), 8)
    canvas.shade([[x - 1.2, 0, z - 0.6], [x + 1.2, 0, z - 0.6], [x + 1.2, 0, z + 0.9], [x - 1.2, 0, z + 0.9]], 0.6)
    canvas.bar([x, 0, z], [x + rng.uniform(-0.2, 0.2), tall * 0.55, z], tall * 0.045, [84, 64, 46], "vegetation")
    if rng.random() < 0.25:
        for step in np.linspace(0.16, 0.75, 5):
            wide, base = tall * 0.3 * (1.05 - step), tall * step
            tip = [x, base + tall * 0.32, z]
            canvas.fill([[x - wide, base, z], tip, [x + wide, base, z]], leaf * 0.7, "vegetation")
            canvas.fill([[x, base, z], tip, [x + wide * sun, base, z]], leaf * 0.95, "vegetation")
        return
    radius = tall * rng.uniform(0.22, 0.32)
    for step in range(26):
        angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        lit = 0.68 + 0.5 * step / 26
        spot = [
            x + radius * (away * np.cos(angle) + sun * 0.012 * step),
            tall * 0.68 + radius * (away * np.sin(angle) + 0.01 * step),
            z,
        ]
        blob = radius * rng.uniform(0.3, 0.5) * (1.15 - 0.02 * step)
        canvas.disc(spot, (blob, blob * 0.85), leaf * lit, "vegetation")


def draw_bush(canvas: Canvas, rng: Generator, x: float, z: float, tall: float) -> None:
    """Draw a bush about `tall` metres high at (x, z)."""
    leaf = pick(rng, ((58, 104, 44), (74, 120, 52), (96, 124, 56)), 8)
    for step in range(10):
        spot = [x + rng.uniform(-0.8, 0.8) * tall, tall * rng.uniform(0.25, 0.7), z]
        canvas.disc(spot, (tall * rng.uniform(0.3, 0.5), tall * 0.32), leaf * (0.7 + 0.05 * step), "vegetation")


def draw_pole(canvas: Canvas, rng: Generator, x: float, z: float, kind: str) -> None:
    """Draw a pole at (x, z) that carries a 'lamp', a 'sign' or a traffic 'light'; the arm points to the road."""
    metal, inward = pick(rng, ((122, 126, 130), (84, 88, 92), (150, 150, 146)), 6), -np.sign(x)
    tall = {"lamp": rng.uniform(5, 8), "sign": rng.uniform(2.3, 3.2), "light": rng.uniform(3.0, 4.2)}[kind]
    canvas.bar([x, 0, z], [x, tall, z], 0.2 if kind == "lamp" else 0.16, metal, "pole")
    if kind == "lamp":
        tip = [x + inward * 1.4, tall + 0.25, z]
        canvas.bar([x, tall, z], tip, 0.11, metal, "pole")
        canvas.bar(tip, [x + inward * 2.0, tall + 0.25, z], 0.24, [226, 224, 200], "pole")
    elif kind == "light":
        canvas.fill([[x + dx, tall + dy, z] for dx, dy in ((-0.26, 0), (0.26, 0), (0.26, 1.25), (-0.26, 1.25))],
                    [26, 28, 30], "traffic light")  # fmt: skip
        on = rng.integers(3)
        for lamp, colour in enumerate(([60, 220, 110], [250, 190, 40], [240, 40, 40])):
            glow = np.array(colour) * (1.0 if lamp == on else 0.3)
            canvas.disc([x, tall + 0.24 + 0.38 * lamp, z], (0.15, 0.15), glow, "traffic light")
    else:
        _draw_sign(canvas, rng, x, tall, z)


def _draw_sign(canvas: Canvas, rng: Generator, x: float, up: float, z: float) -> None:
    shape, radius = rng.integers(4), rng.uniform(0.38, 0.52)
    if shape == 0:  # a limit
        canvas.disc([x, up, z], (radius, radius), [205, 30, 36], "traffic sign")
        canvas.disc([x, up, z], (radius * 0.7, radius * 0.7), [244, 244, 240], "traffic sign")
    elif shape == 1:  # a warning
        for share, colour in ((1.0, [205, 30, 36]), (0.6, [244, 244, 240])):
            corners = [
                [x + share * radius * dx, up + share * radius * dy, z] for dx, dy in ((-1, -0.7), (1, -0.7), (0, 1))
            ]
            canvas.fill(corners, colour, "traffic sign")
    else:
        colour = [[24, 74, 160], [20, 110, 70], [236, 190, 30]][rng.integers(3)]
        wide = radius * (0.85 if shape == 2 else 1.6)
        for share, paint in ((1.0, [240, 240, 240]), (0.86, colour)):
            corners = [[x + share * wide * dx, up + share * radius * dy, z]
                       for dx, dy in ((-1, -0.8), (1, -0.8), (1, 0.8), (-1, 0.8))]  # fmt: skip
            canvas.fill(corners, paint, "traffic sign")
        canvas.fill([[x - wide * 0.4, up - 0.06, z], [x + wide * 0.4, up - 0.06, z], [x + wide * 0.4, up + 0.06, z],
                     [x - wide * 0.4, up + 0.06, z]], [240, 240, 240], "traffic sign")  # fmt: skip
