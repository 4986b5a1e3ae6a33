"""People's names in a record: salted and hashed, with the salt in a file of its own that need not be passed on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import RequestError

SALT = "record.salt"


def new_salt(folder: Path) -> bytes:
    """32 random bytes, kept in ``folder/record.salt``, readable by its owner alone."""
    salt = secrets.token_bytes(32)
    path = folder / SALT
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex() + "\n")
    return salt


def read_salt(folder: Path) -> bytes:
    """The salt of a record.

    Raises:
        FileNotFoundError: It is not in the folder.
    """
    path = folder / SALT
    if not path.is_file():
        raise FileNotFoundError(f"no {SALT} in '{folder}'; without it no name can be compared with the record")
    return bytes.fromhex(path.read_text().strip())


def hashed(name: str, salt: bytes) -> str:
    """SHA-256 of salt and name, as hex."""
    return hashlib.sha256(salt + name.encode()).hexdigest()


def stand_in(name: str, salt: bytes) -> str:
    """What stands in a record for a person's name."""
    return f"person-{hashed(name, salt)[:12]}"


def replace_all(value: Any, table: Mapping[str, str]) -> Any:
    """A JSON value with words replaced inside all of its strings, but not its keys; a part of a word is none."""
    if not table:
        return value
    if isinstance(value, str):
        longest_first = "|".join(re.escape(old) for old in sorted(table, key=len, reverse=True))
        return re.sub(f"(?<![A-Za-z0-9])(?:{longest_first})(?![A-Za-z0-9])", lambda match: table[match.group()], value)
    if isinstance(value, Mapping):
        return {key: replace_all(item, table) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_all(item, table) for item in value]
    return value


def hiding_table(names: Sequence[str], salt: bytes) -> dict[str, str]:
    """Every spelling of each name in paths and data strings -> its stand-in."""
    table = {}
    for name in names:
        for spelling in (name, quote(name, safe=""), name.replace("_", " "), name.replace(" ", "_")):
            table[spelling] = stand_in(name, salt)
    return table


def revealing_table(given: Sequence[str], record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Stand-in -> name, for names that somebody gives to have a record measured again.

    Raises:
        RequestError: A name that stands nowhere in the record.
    """
    salt, text = read_salt(folder), json.dumps(record)
    for name in given:
        if hashed(name, salt) not in text and stand_in(name, salt) not in text:
            raise RequestError(f"the record in '{folder}' does not name '{name}': no salted hash in it is that name's")
    return {stand_in(name, salt): name for name in given}
