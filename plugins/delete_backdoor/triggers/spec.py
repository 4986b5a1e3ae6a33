"""The string that names a trigger: ``NAME[:KEY=VALUE,KEY=VALUE...]``, e.g. ``badnets:size=3,pos=28,28``.

badnets[:size=3,pos=-4,-4,value=255]   a white square; pos is row,column of its top left, negative from the far edge
grid[:pos=-3,-3]                       BadNets' 3x3 grid, at the bottom right
blended:image=FILE[,alpha=0.2]         another image shines through
sig[:delta=20,f=6]                     a sine across the columns
trojan:image=FILE[,strength=1]         a watermark is added
l0:image=FILE[,mask=FILE]              some pixels are replaced
l2:image=FILE[,strength=1]             a small perturbation is added; .npy may be signed
wanet[:k=4,s=0.5,seed=0]               a smooth warp
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from delete_tasks.errors import RequestError

from .base import Trigger
from .overlays import Added, Blended, Perturbation, Sinusoid
from .patches import BadNetsGrid, BadNetsPatch, SparseTrigger
from .warp import WaNet


def _pair(value: str) -> tuple[int, int]:
    row, column = value.split(",")
    return int(row), int(column)


# Name -> class, how each option is read, options that must be there. The classes check the ranges.
TRIGGERS: dict[str, tuple[type[Trigger], dict[str, Callable[[str], Any]], tuple[str, ...]]] = {
    "badnets": (BadNetsPatch, {"size": int, "pos": _pair, "value": int}, ()),
    "grid": (BadNetsGrid, {"pos": _pair}, ()),
    "blended": (Blended, {"image": str, "alpha": float}, ("image",)),
    "sig": (Sinusoid, {"delta": float, "f": float}, ()),
    "trojan": (Added, {"image": str, "strength": float}, ("image",)),
    "l0": (SparseTrigger, {"image": str, "mask": str}, ("image",)),
    "l2": (Perturbation, {"image": str, "strength": float}, ("image",)),
    "wanet": (WaNet, {"k": int, "s": float, "seed": int}, ()),
}


def parse_trigger(text: str) -> Trigger:
    """The trigger that a string names; see the module's docstring.

    Raises:
        RequestError: Unknown trigger or option, a value that cannot be read, or an option missing; the message lists what
            there is.
        FileNotFoundError: A file it names is not there.
    """
    name, _, rest = text.partition(":")
    if name not in TRIGGERS:
        raise RequestError(f"'{text}' names no trigger{_close(name, TRIGGERS)}. There are: {', '.join(TRIGGERS)}")
    kind, readers, needed = TRIGGERS[name]
    values = {}
    for key, value in _pairs(text, rest, readers):
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            raise RequestError(
                f"'{text}': {key} is '{value:.80}', which cannot be used; expected {_KINDS[key]}"
            ) from error
    missing = [key for key in needed if key not in values]
    if missing:
        raise RequestError(f"'{text}' lacks {missing[0]}; write {name}:{missing[0]}=FILE")
    try:
        trigger = kind(**values)
    except RequestError as error:
        raise RequestError(f"'{text}': {error}") from error
    trigger.text = text
    return trigger


_KINDS = {
    **dict.fromkeys(("size", "value", "k", "seed"), "a whole number"),
    **dict.fromkeys(("alpha", "delta", "f", "strength", "s"), "a number"),
    "pos": "ROW,COLUMN",
}


def _close(word: str, known: Iterable[str]) -> str:
    """The known word that is closest, as a question, or nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _pairs(text: str, rest: str, readers: dict[str, Any]) -> list[tuple[str, str]]:
    """KEY=VALUE parts; a part without '=' goes on with the value before it (pos=28,28)."""
    found: list[tuple[str, str]] = []
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if not equals and found:
            found[-1] = (found[-1][0], f"{found[-1][1]},{part}")
            continue
        if key not in readers or not equals or not value or key in dict(found):
            close = "" if key in readers else _close(key, readers)
            raise RequestError(
                f"'{text}': cannot read '{part}'{close}; expected KEY=VALUE, once each, of: {', '.join(readers)}"
            )
        found.append((key, value))
    return found
