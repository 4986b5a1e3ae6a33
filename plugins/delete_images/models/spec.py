"""Description of a model, the content of model.json, and its checks."""

from __future__ import annotations

import reprlib
from collections import Counter
from typing import Annotated, Any

from msgspec import Meta, Struct

from delete_tasks.errors import RequestError, list_names
from delete_tasks.fileio.validate import as_type

FORMAT = "delete-tasks model"
VERSION = 1
CHANNEL_ORDERS = ("RGB", "BGR")
RESIZES = ("stretch", "crop")
MOST = 1e9  # of the numbers of the preprocessing
LEAST = 1e-9  # of those above 0; msgspec's gt=0 compares with a subnormal number, which a run flushes to zero
MOST_SIDE = 8192  # of an input, in pixels

Number = Annotated[float, Meta(ge=-MOST, le=MOST)]
Deviation = Annotated[float, Meta(ge=LEAST, le=MOST)]
Side = Annotated[int, Meta(ge=1, le=MOST_SIDE)]

NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Usual means and standard deviations (RGB, input range [0, 1]) by name."""


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
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

    size: tuple[Side, Side]
    mean: tuple[Number, Number, Number] = (0.0, 0.0, 0.0)
    std: tuple[Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0)
    channels: Annotated[str, Meta(pattern=f"^({'|'.join(CHANNEL_ORDERS)})$")] = "RGB"
    input_range: tuple[Number, Number] = (0.0, 1.0)
    resize: Annotated[str, Meta(pattern=f"^({'|'.join(RESIZES)})$")] = "stretch"
    crop_fraction: Annotated[float, Meta(ge=LEAST, le=1)] = 1.0

    @classmethod
    def named(cls, normalization: str, size: int | tuple[int, int], **others: Any) -> Preprocessing:
        """Make the preprocessing of a usual mean and std, see :data:`NORMALIZATIONS`; one number for ``size`` means a square.

        Raises:
            RequestError: Unknown name.
        """
        if normalization not in NORMALIZATIONS:
            raise RequestError(f"unknown normalization '{normalization}'; choose one of: {', '.join(NORMALIZATIONS)}")
        mean, std = NORMALIZATIONS[normalization]
        return cls((size, size) if isinstance(size, int) else size, mean, std, **others)


class ModelSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about a model but its weights.

    Attributes:
        architecture: Registered name or import path.
        classes: Names in order of the logits.
        preprocessing: See :class:`Preprocessing`.
        arguments: Keyword arguments of the architecture, JSON values only.
        extra: What a plugin wants to keep beside them (thresholds, say), JSON values only.
    """

    architecture: Annotated[str, Meta(min_length=1)]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """Make the content of model.json without the digest of the weights."""
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
    content = as_type(raw, dict, source)
    content.pop("weights_sha256", None)
    # Another version may have other keys, so it is named before they are.
    form, version = content.pop("format", None), content.pop("version", None)
    if form != FORMAT:
        raise RequestError(
            f"{source}: format is {reprlib.repr(form)}; expected {FORMAT!r}, i.e. a model of delete-tasks"
        )
    if version != VERSION:
        raise RequestError(
            f"{source}: format version {reprlib.repr(version)} is not known here, which reads version {VERSION}; "
            "install a newer delete-tasks, or import the weights again"
        )
    spec: ModelSpec = as_type(content, ModelSpec, source)
    missing = [field for field in Preprocessing.__struct_fields__[:5] if field not in content["preprocessing"]]
    if missing:  # the defaults are for code alone
        raise RequestError(f"{source}: preprocessing: missing {', '.join(missing)}")
    if "num_classes" in spec.arguments and ":" not in spec.architecture:
        raise RequestError(f"{source}: arguments holds num_classes; leave it out, the list of classes says it")
    if len(check_class_names(spec.classes, source)) < 2:
        raise RequestError(f"{source}: {len(spec.classes)} class name(s); a classifier has 2 or more")
    low, high = spec.preprocessing.input_range
    if low >= high:
        raise RequestError(f"{source}: preprocessing.input_range is [{low}, {high}]; expected [low, high], e.g. [0, 1]")
    return spec


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
