"""With what a task opens the models of a record again, as JSON: tuples stay tuples, keys what they are, paths and names can be
found again.

JSON has no tuples and no numbers for keys, and a config of MMSegmentation needs both. So a tuple is ``{"$tuple": [...]}``, a
mapping with other keys than text ``{"$items": [[key, value], ...]}``, a path ``{"$place": "..."}``, a person's name
``{"$person": "..."}``, a string that is made of such pieces ``{"$text": [...]}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import RequestError
from ...evaluation.text import Person, Place, Text
from .people import Hider, find_place, names_near, stand_in


def pack(value: Any, hider: Hider) -> Any:
    """JSON of a measurement.

    Raises:
        TypeError: A value that cannot be written down, such as a function.
    """
    if isinstance(value, Place):
        return {"$place": hider.path(value.path)}
    if isinstance(value, Person):
        return {"$person": hider.name(value.name)}
    if isinstance(value, Text):
        return {"$text": [pack(piece, hider) for piece in value.pieces]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: pack(item, hider) for key, item in value.items()}
        return {"$items": [[pack(key, hider), pack(item, hider)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [pack(item, hider) for item in value]}
    if isinstance(value, list):
        return [pack(item, hider) for item in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f"{value!r} cannot be written down")


def unpack(value: Any, folder: Path, salt: bytes | None, names: Sequence[str] = ()) -> Any:
    """Read a measurement as the task gave it; a Place is now the path of what is there, a Person the name, a Text the string.

    Args:
        value: From :func:`pack`.
        folder: The record's.
        salt: Of hidden names; None where they are in clear.
        names: That hidden ones may be, beside those of folders that the measurement names.

    Raises:
        RequestError: A name that cannot be found again, or a value that :func:`pack` never gave.
        FileNotFoundError: A hidden part of a path is not there any more.
    """
    places: list[Path] = []
    found = _unpack(value, folder, places)
    known = None if salt is None else {stand_in(name, salt): name for name in (*names, *names_near(places))}
    return _named(found, known)


def _unpack(value: Any, folder: Path, places: list[Path]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, folder, places) for item in value]
    if not isinstance(value, dict):
        return value
    (tag, content), *more = [*value.items()] or [("", None)]
    if not tag.startswith("$"):
        return {key: _unpack(item, folder, places) for key, item in value.items()}
    if not more and tag == "$place" and isinstance(content, str):
        places.append(find_place(content, folder))
        return str(places[-1])
    if not more and tag == "$person" and isinstance(content, str):
        return Person(content)
    if not more and tag == "$text" and isinstance(content, list):
        pieces = [_unpack(item, folder, places) for item in content]
        if all(isinstance(piece, (str, Person)) for piece in pieces):
            return Text(pieces)
    if not more and tag == "$tuple" and isinstance(content, list):
        return tuple(_unpack(item, folder, places) for item in content)
    if not more and tag == "$items" and isinstance(content, list):
        pairs = [_unpack(item, folder, places) for item in content]
        if all(isinstance(pair, list) and len(pair) == 2 and _is_key(pair[0]) for pair in pairs):
            return dict(pairs)
    raise RequestError(f"the record's measurement holds {str(value)[:80]}, which no command wrote")


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, type(None))) or (
        isinstance(value, tuple) and all(_is_key(item) for item in value)
    )


def _named(value: Any, known: Mapping[str, str] | None) -> Any:
    if isinstance(value, Text):
        pieces = (quote(_named(one, known), safe="") if isinstance(one, Person) else one for one in value.pieces)
        return "".join(map(str, pieces))
    if isinstance(value, Person):
        if known is None:
            return value.name
        if value.name not in known:
            raise RequestError(f"'{value.name}' stands for a name that is not known here; give it with --name")
        return known[value.name]
    if isinstance(value, dict):
        return {key: _named(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_named(item, known) for item in value)
    return value
