"""What model.json says: the description of a model, and the checks on it."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delete_tasks.errors import RequestError, list_names

FORMAT = "delete-tasks model"
VERSION = 1
CHANNEL_ORDERS = ("RGB", "BGR")
RESIZES = ("stretch", "crop")
MOST = 1e9  # of the numbers of the preprocessing
MOST_SIDE = 8192  # of an input, in pixels

NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Usual means and standard deviations (RGB, input range [0, 1]) by name."""


@dataclass(frozen=True)
class Preprocessing:
    """From an RGB uint8 image to the network's input: resize, scale to the input range, subtract mean, divide by std.

    Attributes:
        size: (height, width) of the input in pixels.
        mean: Per channel, in units of the input range, in the network's channel order.
        std: As ``mean``; above zero.
        channels: 'RGB' or 'BGR', what the network expects.
        input_range: What pixel values 0 and 255 become before mean and std: (0, 1), (0, 255) or (-1, 1), usually.
        resize: 'stretch' to ``size``, or 'crop': the shorter side to ``size / crop_fraction``, then the centre.
        crop_fraction: In (0, 1]; torchvision's ImageNet networks use 0.875 (256 to 224).
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: str = "RGB"
    input_range: tuple[float, float] = (0.0, 1.0)
    resize: str = "stretch"
    crop_fraction: float = 1.0

    @classmethod
    def named(cls, normalization: str, size: int | tuple[int, int], **others: Any) -> Preprocessing:
        """With a usual mean and std, see :data:`NORMALIZATIONS`; one number for ``size`` means a square.

        Raises:
            RequestError: Unknown name.
        """
        if normalization not in NORMALIZATIONS:
            raise RequestError(f"unknown normalization '{normalization}'; choose one of: {', '.join(NORMALIZATIONS)}")
        mean, std = NORMALIZATIONS[normalization]
        return cls((size, size) if isinstance(size, int) else size, mean, std, **others)


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its weights.

    Attributes:
        architecture: Registered name or import path.
        classes: Names in order of the logits.
        preprocessing: See :class:`Preprocessing`.
        arguments: Keyword arguments of the architecture, JSON values only.
        extra: What a plugin wants to keep beside them (thresholds, say), JSON values only.
    """

    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    arguments: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """The content of model.json, but for the digest of the weights."""
    pre = spec.preprocessing
    return {
        "format": FORMAT,
        "version": VERSION,
        "architecture": spec.architecture,
        "arguments": dict(spec.arguments),
        "classes": list(spec.classes),
        "preprocessing": {
            "size": list(pre.size),
            "mean": list(pre.mean),
            "std": list(pre.std),
            "channels": pre.channels,
            "input_range": list(pre.input_range),
            "resize": pre.resize,
            "crop_fraction": pre.crop_fraction,
        },
        "extra": dict(spec.extra),
    }


def spec_from_json(raw: Any, source: str) -> ModelSpec:
    """Check the content of a model.json and turn it into a ModelSpec. ``source`` is named in messages.

    Raises:
        RequestError: Another format or version; a key missing, unknown or of the wrong kind; fewer than two classes or
            a name twice; preprocessing that cannot be.
    """
    required = ("format", "version", "architecture", "classes", "preprocessing")
    _check_mapping(raw, required, source)
    # Another version may have other keys, so it is named before they are.
    if raw.get("format") != FORMAT:
        raise RequestError(
            f"{source}: format is {reprlib.repr(raw.get('format'))}; expected {FORMAT!r}, i.e. a model of delete-tasks"
        )
    if raw.get("version") != VERSION:
        raise RequestError(
            f"{source}: format version {reprlib.repr(raw.get('version'))} is not known here, which reads version {VERSION}; "
            "install a newer delete-tasks, or import the weights again"
        )
    _check_keys(raw, required, ("arguments", "extra", "weights_sha256"), source)
    architecture = raw["architecture"]
    if not isinstance(architecture, str) or not architecture:
        raise RequestError(
            f"{source}: architecture is {reprlib.repr(architecture)}; expected a name or 'package.module:Class'"
        )
    for key in ("arguments", "extra"):
        value = raw.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise RequestError(f"{source}: {key} is {reprlib.repr(value)}; expected an object of names and values")
    arguments = dict(raw.get("arguments", {}))
    if "num_classes" in arguments and ":" not in architecture:
        raise RequestError(f"{source}: arguments holds num_classes; leave it out, the list of classes says it")
    classes = check_class_names(raw["classes"], source)
    if len(classes) < 2:
        raise RequestError(f"{source}: {len(classes)} class name(s); a classifier has 2 or more")
    return ModelSpec(
        architecture, classes, _read_preprocessing(raw["preprocessing"], source), arguments, raw.get("extra", {})
    )


def _check_mapping(raw: Any, required: tuple[str, ...], source: str) -> None:
    if not isinstance(raw, Mapping):
        raise RequestError(
            f"{source}: expected an object with the keys {', '.join(required)}; got a {type(raw).__name__}"
        )


def _check_keys(raw: Any, required: tuple[str, ...], optional: tuple[str, ...], source: str) -> None:
    _check_mapping(raw, required, source)
    missing = [key for key in required if key not in raw]
    if missing:
        raise RequestError(f"{source}: missing {', '.join(missing)}; required are {', '.join(required)}")
    unknown = [str(key) for key in raw if key not in (*required, *optional)]
    if unknown:
        raise RequestError(
            f"{source}: unknown key {list_names(unknown)}; known are {', '.join((*required, *optional))}"
        )


def check_class_names(raw: Any, source: str) -> tuple[str, ...]:
    """Class names as they can be used: text that can be written, each once.

    Raises:
        RequestError: They are not; the message begins with ``source``.
    """
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) and name for name in raw):
        raise RequestError(f"{source}: classes must be a list of names, got {reprlib.repr(raw)}")
    broken = [name for name in raw if name.encode(errors="ignore").decode() != name]
    if broken:
        raise RequestError(
            f"{source}: the class name {broken[0]!r} is no Unicode text (it holds half a character, or a byte that is no "
            "UTF-8) and cannot be written; rename it"
        )
    twice = sorted(name for name, count in Counter(raw).items() if count > 1)
    if twice:
        raise RequestError(
            f"{source}: class names appear more than once: {list_names(twice)}; each needs a name of its own"
        )
    return tuple(raw)


def _numbers(raw: Any, key: str, count: int, source: str) -> tuple[float, ...]:
    good = isinstance(raw, list | tuple) and len(raw) == count
    # Compared, since a whole number can be too large for a float.
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= MOST for v in raw):
        raise RequestError(
            f"{source}: preprocessing.{key} is {reprlib.repr(raw)}; expected {count} finite numbers of at most {MOST:g}"
        )
    return tuple(float(value) for value in raw)


def _read_preprocessing(raw: Any, source: str) -> Preprocessing:
    required, optional = ("size", "mean", "std", "channels", "input_range"), ("resize", "crop_fraction")
    _check_keys(raw, required, optional, f"{source}: preprocessing")
    height, width = _numbers(raw["size"], "size", 2, source)
    if not all(1 <= side <= MOST_SIDE and side % 1 == 0 for side in (height, width)):
        raise RequestError(
            f"{source}: preprocessing.size is {raw['size']!r}; expected [height, width] in whole pixels, 1 to {MOST_SIDE}"
        )
    std = _numbers(raw["std"], "std", 3, source)
    if min(std) <= 0:
        raise RequestError(f"{source}: preprocessing.std is {raw['std']!r}; every value must be above 0")
    low, high = _numbers(raw["input_range"], "input_range", 2, source)
    if low >= high:
        raise RequestError(
            f"{source}: preprocessing.input_range is {raw['input_range']!r}; expected [low, high], e.g. [0, 1]"
        )
    resize, channels = raw.get("resize", "stretch"), raw["channels"]
    for key, word, allowed in (("channels", channels, CHANNEL_ORDERS), ("resize", resize, RESIZES)):
        if word not in allowed:
            said = reprlib.repr(word)
            raise RequestError(f"{source}: preprocessing.{key} is {said}; expected one of {', '.join(allowed)}")
    (fraction,) = _numbers([raw.get("crop_fraction", 1.0)], "crop_fraction", 1, source)
    if not 0 < fraction <= 1:
        raise RequestError(f"{source}: preprocessing.crop_fraction is {fraction}; expected a number in (0, 1]")
    mean = _numbers(raw["mean"], "mean", 3, source)
    return Preprocessing((int(height), int(width)), mean, std, channels, (low, high), resize, fraction)
