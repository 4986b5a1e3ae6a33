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
from collections.abc import Callable
from typing import Any

from delete_tasks.errors import RequestError

from .base import Trigger
from .overlays import Added, Blended, Sinusoid
from .patches import BadNetsGrid, BadNetsPatch, SparseTrigger
from .warp import WaNet


def _whole(value: str, least: int, most: int) -> int:
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"from {least} to {most}")
    return number


def _real(value: str, above: float, most: float) -> float:
    number = float(value)
    if not above < number <= most:
        raise ValueError(f"above {above:g} and at most {most:g}")
    return number


def _pair(value: str) -> tuple[int, int]:
    row, column = value.split(",")
    return int(row), int(column)


_SIZE: Callable[[str], Any] = lambda value: _whole(value, 1, 10**4)  # noqa: E731
_PAIR: Callable[[str], Any] = _pair
_FILE: Callable[[str], Any] = str
_STRENGTH: Callable[[str], Any] = lambda value: _real(value, 0, 1e3)  # noqa: E731

# Name -> class, how each option is read, options that must be there.
TRIGGERS: dict[str, tuple[type[Trigger], dict[str, Callable[[str], Any]], tuple[str, ...]]] = {
    "badnets": (BadNetsPatch, {"size": _SIZE, "pos": _PAIR, "value": lambda value: _whole(value, 0, 255)}, ()),
    "grid": (BadNetsGrid, {"pos": _PAIR}, ()),
    "blended": (Blended, {"image": _FILE, "alpha": lambda value: _real(value, 0, 1)}, ("image",)),
    "sig": (Sinusoid, {"delta": lambda value: _real(value, 0, 255), "f": _STRENGTH}, ()),
    "trojan": (Added, {"image": _FILE, "strength": _STRENGTH}, ("image",)),
    "l0": (SparseTrigger, {"image": _FILE, "mask": _FILE}, ("image",)),
    "l2": (Added, {"image": _FILE, "strength": _STRENGTH}, ("image",)),
    "wanet": (
        WaNet,
        {"k": lambda value: _whole(value, 2, 64), "s": _STRENGTH, "seed": lambda v: _whole(v, 0, 2**31)},
        (),
    ),
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
        close = difflib.get_close_matches(name, TRIGGERS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise RequestError(f"'{text}' names no trigger{hint} There are: {', '.join(TRIGGERS)}")
    kind, readers, needed = TRIGGERS[name]
    values = {}
    for key, value in _pairs(text, rest, readers):
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            raise RequestError(f"'{text}': {key} is '{value}', which cannot be used ({error})") from error
    missing = [key for key in needed if key not in values]
    if missing:
        raise RequestError(f"'{text}' lacks {missing[0]}; write {name}:{missing[0]}=FILE")
    trigger = kind(**values)
    trigger.text = text
    return trigger


def _pairs(text: str, rest: str, readers: dict[str, Any]) -> list[tuple[str, str]]:
    """KEY=VALUE parts; a part without '=' goes on with the value before it (pos=28,28)."""
    found: list[tuple[str, str]] = []
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if not equals and found:
            found[-1] = (found[-1][0], f"{found[-1][1]},{part}")
            continue
        if key not in readers or not equals or not value or key in dict(found):
            raise RequestError(
                f"'{text}': cannot read '{part}'; expected KEY=VALUE, once each, of: {', '.join(readers)}"
            )
        found.append((key, value))
    return found
