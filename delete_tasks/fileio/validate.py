"""JSON files, read without trust, and validation of their content against a type."""

import json
import math
import os
import re
import reprlib
from typing import Any

import msgspec
from msgspec.structs import fields

from ..errors import RequestError
from .inputs import read_text

LONGEST = 200  # characters of the problem, which may contain a key of the file
DEEPEST = 64  # levels of lists and objects; readers, validators and JSON itself recurse


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file as :func:`parse_json`; raise as :func:`delete_tasks.fileio.inputs.read_text` and :func:`parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Parse JSON; raise ValueError for a number that is not finite, a repeated key, or over :data:`DEEPEST` nested levels."""
    try:
        content = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unique)
        level, depth = [content], 0
        while level:
            if depth > DEEPEST:
                raise RecursionError
            parents = [item for item in level if isinstance(item, (dict, list))]
            level = [child for item in parents for child in (item.values() if isinstance(item, dict) else item)]
            depth += 1
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} levels of lists and objects") from None
    return content


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(content)[:80]}")
    return content


def as_type(content: Any, kind: Any, source: str) -> Any:
    """Convert the content of a file to a ``msgspec.Struct``; structs that forbid unknown fields are the outermost, or types of
    fields of such structs. Raise :class:`RequestError`, which names the file, the key's place, its value and what was expected,
    if a key is missing, unknown or of another type."""
    try:
        return msgspec.convert(content, kind)
    except UnicodeEncodeError as error:
        raise RequestError(f"{source}: it holds {error.object!r:.99}, which is no text (a lone surrogate)") from error
    except msgspec.ValidationError as error:
        text = str(error)
    parts: Any = re.fullmatch(r"(.*?)(?: - at (?:`key` in )?`\$\.?(.*)`)?", text, re.DOTALL)
    problem, place = parts[1][:LONGEST], parts[2] or ""
    keys = re.findall(r"\w+", place.partition("[...]")[0])  # [...] is a key of a mapping, which msgspec does not name
    if "unknown field" in text:
        for key in keys:
            kind = next(field.type for field in fields(kind) if field.name == key)
        problem += f"; its fields are {', '.join(field.encode_name for field in fields(kind))}"
    elif place:
        for key in keys:
            content = content[int(key) if isinstance(content, (list, tuple)) else key]
        place += f" is {reprlib.repr(content)}"
    raise RequestError(": ".join(filter(None, (source, place, problem))))
