"""``data`` and ``options`` with which a task opens the models of a record again, as JSON.

JSON has neither tuples nor numeric keys, and a config of MMSegmentation needs both: a tuple is ``{"$tuple": [...]}``, a mapping
with other keys than strings ``{"$items": [[key, value], ...]}``, a path ``{"$place": "..."}``, a person's name
``{"$person": "..."}``, a string made of such pieces ``{"$text": [...]}``.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import RequestError
from ...evaluation.opened import Person, Place, Text
from .people import Hider, find_place, names_near, stand_in


def pack(value: Any, hider: Hider) -> Any:
    """Encode a measurement as JSON values; raise :class:`TypeError` for a value that JSON cannot hold, such as a function."""
    if isinstance(value, Place):
        return {"$place": hider.path(value.path)}
    if isinstance(value, Person):
        return {"$person": hider.name(value.name)}
    if isinstance(value, Text):
        pieces = [pack(piece, hider) for piece in value.pieces]
        return {"$text": pieces if hider.salt is None else _without_order(pieces)}
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
    raise TypeError(f"{value!r} cannot be written as JSON")


def _without_order(pieces: Sequence[Any]) -> list[Any]:
    """Sort the hashes in each list of people's names, ``[..., name, ",", name, ...]``, whose order tells the names' places."""
    pieces = [*pieces]
    for begin, piece in enumerate(pieces):
        if isinstance(piece, dict) and "$person" in piece and (not begin or pieces[begin - 1] != ","):
            end = begin + 2
            while end < len(pieces) and pieces[end - 1] == ",":
                end += 2
            pieces[begin:end:2] = sorted(pieces[begin:end:2], key=lambda person: person["$person"])
    return pieces


def unpack(value: Any, folder: Path, salt: bytes | None, names: Sequence[str] = ()) -> Any:
    """Decode a measurement from :func:`pack`, with paths, names and texts as strings. Hidden names (``salt``: None if in clear)
    are looked up among ``names`` and the folders at the measurement's paths. Raise :class:`RequestError` for an unknown name or
    an invalid value, :class:`FileNotFoundError` for a missing hidden path."""
    places: list[Path] = []
    decoded = _unpack(value, folder, places)
    name_of = None if salt is None else {stand_in(name, salt): name for name in (*names, *names_near(places))}
    return _named(decoded, name_of)


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
    if not more and tag in ("$text", "$tuple", "$items") and isinstance(content, list):
        items = [_unpack(item, folder, places) for item in content]
        if tag == "$tuple":
            return tuple(items)
        if tag == "$text" and all(isinstance(piece, (str, Person)) for piece in items):
            return Text(items)
        if tag == "$items" and all(isinstance(pair, list) and len(pair) == 2 and _is_key(pair[0]) for pair in items):
            return dict(items)
    raise RequestError(f"the record's measurement holds {str(value)[:80]}, which no command wrote")


def _is_key(value: Any) -> bool:
    return all(map(_is_key, value)) if isinstance(value, tuple) else not isinstance(value, (list, dict, Person, Text))


def _named(value: Any, name_of: Mapping[str, str] | None) -> Any:
    if isinstance(value, Text):
        parts = (quote(_named(part, name_of), safe="") if isinstance(part, Person) else part for part in value.pieces)
        return "".join(map(str, parts))
    if isinstance(value, Person):
        if name_of is not None and value.name not in name_of:
            raise RequestError(f"the name hidden as '{value.name}' is unknown; pass it to --name")
        return value.name if name_of is None else name_of[value.name]
    if isinstance(value, dict):
        return {key: _named(item, name_of) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_named(item, name_of) for item in value)
    return value
