"""Validation of the content of files against a type."""

import re
import reprlib
from typing import Any

import msgspec
from msgspec.structs import fields

from ..errors import RequestError

LONGEST = 200  # characters of the problem, which may contain a key of the file


def as_type(content: Any, kind: Any, source: str) -> Any:
    """Convert the content of a file to a type.

    The type is a ``msgspec.Struct``; structs that forbid unknown fields are the outermost, or types of fields of such structs.

    Raises:
        RequestError: A key is missing, unknown or of another type; the message names the file, the key's place, its value and
            what was expected.
    """
    try:
        return msgspec.convert(content, kind)
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
