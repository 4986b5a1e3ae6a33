"""Base of triggers, an albumentations transform of one uint8 image; their registry, and the trigger that a string names."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import numpy as np

from delete_images.data.transforms import load_albumentations
from delete_tasks.errors import RequestError, did_you_mean
from delete_tasks.plugins import import_offered

from ..grammar import GROUP, READERS, parameters_of, type_of

albumentations = load_albumentations("backdoor")

STRONGEST = 1000.0  # factor or frequency


class Trigger(albumentations.ImageOnlyTransform):  # type: ignore[name-defined]
    """Trigger: uint8 RGB (H, W, 3) to the same, deterministic, on every image (p=1), for any albumentations pipeline;
    :meth:`stamp` is the attack. Refuse an option out of its range, and a file that is missing or cannot be used."""

    text: str = ""  # that it was made from

    def __init__(self) -> None:
        super().__init__(p=1.0)

    @abstractmethod
    def stamp(self, image: np.ndarray) -> np.ndarray:
        """Put the trigger on an image."""

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise RequestError(
                f"a trigger got an image of shape {img.shape} and type {img.dtype}; expected (H, W, 3) uint8 RGB. Put it "
                "ahead of normalisation in the pipeline"
            )
        return self.stamp(img)


def to_levels(values: np.ndarray) -> np.ndarray:
    """Round float values in levels 0..255 to uint8, clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


TRIGGERS: dict[str, type[Trigger]] = {}
"""Registered triggers by name; those of the entry point group ``delete_tasks.triggers`` are imported when they are named."""


def register_trigger(name: str) -> Callable[[type[Trigger]], type[Trigger]]:
    """Register a trigger: its constructor's parameters, with types and defaults, are the options of its string. Refuse a name
    that is taken or holds more than letters, digits, '_' and '-'; a class without ``stamp``; and a type that READERS lacks."""

    def add(cls: type[Trigger]) -> type[Trigger]:
        what = f"cannot register trigger '{name}' ({cls.__name__})"
        if name in TRIGGERS or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise RequestError(f"{what}: the name is taken or not of letters, digits, '_' and '-'; choose another")
        if missing := cls.__abstractmethods__:
            raise RequestError(f"{what}: it has no {', '.join(sorted(missing))}(); write it")
        for key, parameter in parameters_of(cls).items():
            if (kind := type_of(parameter.annotation)) not in READERS:
                raise RequestError(f"{what}: argument '{key}' has the type '{kind}'; give one of {', '.join(READERS)}")
        TRIGGERS[name] = cls
        return cls

    return add


def parse_trigger(text: str) -> Trigger:
    """Make the trigger that a string names, e.g. ``badnets:size=3,pos=28,28``; see :mod:`delete_backdoor.grammar`. Raise
    RequestError, which lists the valid ones, for an unknown trigger or option, a value that cannot be read or a missing option;
    FileNotFoundError if a file that it names does not exist."""
    name, options, pairs = split_trigger(text)
    values = {}
    for key, value in pairs:
        read, expected, _ = READERS[type_of(options[key].annotation)]
        try:
            values[key] = read(value)
        except ValueError as error:
            raise RequestError(f"'{text}': {key} is '{value:.80}'; expected {expected}") from error
    for key, option in options.items():
        if key not in values and option.default is Parameter.empty:
            form = READERS[type_of(option.annotation)][2]
            raise RequestError(f"'{text}' lacks {key}; write {name}:{key}={form}")
    try:
        trigger = TRIGGERS[name](**values)
    except RequestError as error:
        raise RequestError(f"'{text}': {error}") from error
    trigger.text = text
    return trigger


def split_trigger(text: str) -> tuple[str, Mapping[str, Parameter], list[tuple[str, str]]]:
    """Split a trigger string into name, the trigger's options and those given, as text; raise as :func:`parse_trigger`."""
    name, _, rest = text.partition(":")
    if name not in TRIGGERS and not import_offered("trigger", name, GROUP, TRIGGERS):
        hint = did_you_mean(name.lower(), TRIGGERS)
        raise RequestError(f"'{text}' names no trigger{hint} Triggers: {', '.join(sorted(TRIGGERS))}")
    options, pairs = parameters_of(TRIGGERS[name]), list[tuple[str, str]]()
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if not equals and pairs:  # it continues the value before it (pos=28,28)
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{part}")
            continue
        if key not in options or not equals or not value or key in dict(pairs):
            hint = "." if key in options else did_you_mean(key.lower(), options)
            takes = f"Expected KEY=VALUE, once each, of: {', '.join(options)}" if options else "It takes no options"
            raise RequestError(f"'{text}': cannot read '{part}'{hint} {takes}")
        pairs.append((key, value))
    return name, options, pairs
