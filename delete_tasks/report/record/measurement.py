"""``data`` and ``options`` with which a task opens the models of a record again, as JSON.

JSON has neither tuples nor numeric keys, and a config of MMSegmentation needs both: a tuple is ``{"$tuple": [...]}``, a mapping
with other keys than strings ``{"$items": [[key, value], ...]}``, a path ``{"$place": "..."}``, a person's name
``{"$person": "..."}``, a string made of such pieces ``{"$text": [...]}``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
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
    if salt is None:
        return _decode(value, folder, None)
    known = (*names, *names_near([*_places(value, folder)]))
    return _decode(value, folder, {stand_in(name, salt): name for name in known})


def _places(value: Any, folder: Path) -> Iterator[Path]:
    if isinstance(value, dict) and isinstance(value.get("$place"), str):
        yield find_place(value["$place"], folder)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _places(item, folder)


def _decode(value: Any, folder: Path, name_of: Mapping[str, str] | None) -> Any:
    if isinstance(value, list):
        return [_decode(item, folder, name_of) for item in value]
    if not isinstance(value, dict):
        return value
    (tag, content), *more = [*value.items()] or [("", None)]
    if not tag.startswith("$"):
        return {key: _decode(item, folder, name_of) for key, item in value.items()}
    if not more and tag == "$place" and isinstance(content, str):
        return str(find_place(content, folder))
    if not more and tag == "$person" and isinstance(content, str):
        if name_of is not None and content not in name_of:
            raise RequestError(f"the name hidden as '{content}' is unknown; pass it to --name")
        return content if name_of is None else name_of[content]
    if not more and tag in ("$text", "$tuple", "$items") and isinstance(content, list):
        items = [_decode(item, folder, name_of) for item in content]
        if tag == "$tuple":
            return tuple(items)
        if tag == "$text" and all(isinstance(item, str) for item in items):
            is_person = [isinstance(piece, dict) and "$person" in piece for piece in content]
            return "".join(quote(item, safe="") if own else item for item, own in zip(items, is_person, strict=True))
        if tag == "$items" and all(isinstance(pair, list) and len(pair) == 2 for pair in items):
            with suppress(TypeError):  # a key that is a list or a mapping
                return dict(items)
    raise RequestError(f"the record's measurement holds {str(value)[:80]}, which no command wrote")
