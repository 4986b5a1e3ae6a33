"""Description of a model: model.json, read and checked without torch."""

import json
import os
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from delete_tasks.errors import RequestError, list_names
from delete_tasks.fileio.validate import as_type, read_json

FORMAT = "delete-tasks model"
VERSION = 1
WEIGHTS_NAME = "weights.safetensors"
SPEC_NAME = "model.json"
MOST_SPEC = 2**26  # bytes of a model.json; 100,000 class names take about 3 MB
MOST = 1e9  # of the numbers of the preprocessing
LEAST = 1e-9  # of those above 0; msgspec's gt=0 compares with a subnormal number, which a run flushes to zero
MOST_SIDE = 8192  # of an input, in pixels

Number = Annotated[float, Meta(ge=-MOST, le=MOST)]
Deviation = Annotated[float, Meta(ge=LEAST, le=MOST)]
Side = Annotated[int, Meta(ge=1, le=MOST_SIDE)]

NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "pixels": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),  # values from 0 to 255
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Usual means and standard deviations (RGB, input range [0, 1]) by name."""


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
    """Preprocessing of an RGB uint8 image: resize, scale to the input range, subtract mean, divide by std.

    Attributes:
        size: (height, width) of the input in pixels.
        mean: Mean per channel, in units of the input range, in the network's channel order.
        std: As ``mean``; above zero.
        channels: Channel order of the network, 'RGB' or 'BGR'.
        input_range: Values of pixels 0 and 255 before mean and std: usually (0, 1), (0, 255) or (-1, 1).
        resize: 'stretch' to ``size``, or 'crop': the shorter side to ``size / crop_fraction``, then the centre.
        crop_fraction: In (0, 1]; torchvision's ImageNet networks use 0.875 (256 to 224).
    """

    size: tuple[Side, Side]
    mean: tuple[Number, Number, Number] = (0.0, 0.0, 0.0)
    std: tuple[Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0)
    channels: Annotated[str, Meta(pattern="^(RGB|BGR)$")] = "RGB"
    input_range: tuple[Number, Number] = (0.0, 1.0)
    resize: Annotated[str, Meta(pattern="^(stretch|crop)$")] = "stretch"
    crop_fraction: Annotated[float, Meta(ge=LEAST, le=1)] = 1.0

    @classmethod
    def named(cls, normalization: str, size: int | tuple[int, int], **others: Any) -> "Preprocessing":
        """Make the preprocessing with a mean and std of :data:`NORMALIZATIONS`; one number for ``size`` means a square."""
        if normalization not in NORMALIZATIONS:
            raise RequestError(f"unknown normalization '{normalization}'; choose one of: {', '.join(NORMALIZATIONS)}")
        mean, std = NORMALIZATIONS[normalization]
        return cls((size, size) if isinstance(size, int) else size, mean, std, **others)


def unit_normalization(images: Preprocessing) -> tuple[list[float], list[float]]:
    """Compute mean and std for images in [0, 1]: ``(low + x (high - low) - mean) / std`` as ``(x - mean') / std'``."""
    low, high = images.input_range
    return [(value - low) / (high - low) for value in images.mean], [value / (high - low) for value in images.std]


class ModelSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """Description of a model without its weights.

    Attributes:
        architecture: Registered name or import path.
        classes: Class names in order of the logits.
        preprocessing: See :class:`Preprocessing`.
        arguments: Keyword arguments of the architecture, JSON values only.
        extra: Data of plugins, such as thresholds, JSON values only.
    """

    architecture: Annotated[str, Meta(min_length=1)]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """Make the content of model.json without the digest of the weights; refuse arguments or extra that are no JSON values."""
    fields = {**asdict(spec), "preprocessing": asdict(spec.preprocessing)}
    try:
        return {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(fields, allow_nan=False))}
    except (TypeError, ValueError) as error:
        raise RequestError(f"arguments or extra cannot be written as JSON: {error}; use plain values") from error


def spec_from_json(raw: Any, source: str) -> ModelSpec:
    """Convert the content of a model.json, named ``source`` in messages, to a ModelSpec. Refuse another format or version; a key
    missing, unknown or of the wrong kind; fewer than two classes or a repeated name; impossible preprocessing."""
    content = as_type(raw, dict, source)
    content.pop("weights_sha256", None)
    # Before the keys, which may differ in another version.
    form, version = content.pop("format", None), content.pop("version", None)
    if form != FORMAT:
        raise RequestError(f"{source}: format is {reprlib.repr(form)}; expected {FORMAT!r}")
    if version != VERSION:
        raise RequestError(
            f"{source}: format version {reprlib.repr(version)}, but this delete-tasks reads version {VERSION}; install a "
            "newer one, or import the weights again"
        )
    spec: ModelSpec = as_type(content, ModelSpec, source)
    missing = [field for field in Preprocessing.__struct_fields__[:5] if field not in content["preprocessing"]]
    if missing:  # their defaults are only for code
        raise RequestError(f"{source}: preprocessing: missing {', '.join(missing)}")
    if "num_classes" in spec.arguments and ":" not in spec.architecture:
        raise RequestError(f"{source}: arguments holds num_classes; leave it out, since it follows from classes")
    if len(check_class_names(spec.classes, source)) < 2:
        raise RequestError(f"{source}: {len(spec.classes)} class name(s); a classifier has 2 or more")
    low, high = spec.preprocessing.input_range
    if low >= high:
        raise RequestError(f"{source}: preprocessing.input_range is [{low}, {high}]; expected [low, high], e.g. [0, 1]")
    return spec


def as_spec(description: Any) -> ModelSpec:
    """Read a model folder's description, a model.json's content (format and version optional) or a ModelSpec, as load_spec."""
    if isinstance(description, ModelSpec):
        return description
    if isinstance(description, Mapping):
        content = description.to_dict() if hasattr(description, "to_dict") else description
        return spec_from_json({"format": FORMAT, "version": VERSION, **content}, "the model's description")
    return load_spec(description)


def load_spec(folder: str | os.PathLike[str]) -> ModelSpec:
    """Read and check model.json; raise FileNotFoundError without one, RequestError, which names the key, if it is not valid."""
    return spec_from_json(*read_spec(folder))


def read_spec(folder: str | os.PathLike[str]) -> tuple[Any, str]:
    """Read the content of a model.json, and its name for messages; raises as :func:`load_spec`, but checks no key."""
    folder = Path(folder)
    path = folder / SPEC_NAME
    if not path.is_file():
        problem = "a file" if folder.is_file() else f"no {SPEC_NAME} in it" if folder.exists() else "nothing there"
        raise FileNotFoundError(
            f"'{folder}' is not a model ({problem}); expected a folder with {SPEC_NAME} and {WEIGHTS_NAME}. Make one from a "
            "weights file with: delete-tasks images import, or detection import"
        )
    size = path.stat().st_size
    if size > MOST_SPEC:
        raise RequestError(f"'{path}' has {size:,} bytes; expected {MOST_SPEC:,} at most")
    try:
        return read_json(path), f"'{path}'"
    except (ValueError, OSError) as error:
        raise RequestError(f"'{path}' is not JSON: {error}; write the model again with images import") from error


def check_class_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """Raise RequestError, with ``source``, unless class names are Unicode text, not empty, and unique."""
    if not all(names):
        raise RequestError(f"{source}: a class has an empty name in {reprlib.repr(names)}; name it")
    broken = [name for name in names if name.encode(errors="ignore").decode() != name]
    if broken:
        raise RequestError(
            f"{source}: the class name {broken[0]!r} is not Unicode text (it holds half a character, or a byte that is not "
            "UTF-8) and cannot be written; rename it"
        )
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise RequestError(f"{source}: repeated class names {list_names(repeated)}; give each class another name")
    return tuple(names)
