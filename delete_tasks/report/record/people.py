"""People's names in a record: salted and hashed, with the salt in a file of its own that need not be passed on.

Names are replaced where they are put in, and never searched for in a finished record, so that a date, a version or a key stays
what it is whatever a person is called. A path is hidden part by part: a part that holds a name, in whatever case and with
whatever separators, is replaced as a whole by the hash of that part. Where the folders still are, they tell the part again.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from ...errors import RequestError
from ...fileio.digests import relative
from ...fileio.workdir import TEMPORARY

SALT = "record.salt"
RUN_TOGETHER = 4  # letters and digits; a shorter name is found as a word alone
_STAND_IN = re.compile("person-[0-9a-f]{12}")


def new_salt() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(32)


def save_salt(folder: Path, salt: bytes) -> None:
    """Keep a salt in ``folder/record.salt``, readable by its owner alone from the first moment."""
    temporary = folder / f".{SALT}{TEMPORARY}"
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / SALT)


def read_salt(folder: Path) -> bytes:
    """The salt of a record.

    Raises:
        FileNotFoundError: It is not in the folder.
        RequestError: It is damaged.
    """
    path = folder / SALT
    if not path.is_file():
        raise FileNotFoundError(f"no {SALT} in '{folder}'; without it no name can be compared with the record")
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError as error:
        raise RequestError(f"'{path}' is no salt ({error}); restore it from a copy") from error


def hashed(name: str, salt: bytes) -> str:
    """SHA-256 of salt and name, as hex."""
    return hashlib.sha256(salt + name.encode("utf-8", "surrogatepass")).hexdigest()


def stand_in(name: str, salt: bytes) -> str:
    """What stands in a record for a person's name, or for a part of a path that holds one."""
    return f"person-{hashed(name, salt)[:12]}"


def fold(text: str) -> tuple[str, list[int]]:
    """Letters and digits without case and accents, and the place in ``text`` of each."""
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character.casefold()):
            if part.isalnum():
                kept.append(part)
                places.append(place)
    return "".join(kept), places


class Hider:
    """Replaces names of people, or, without a salt, nothing. ``base`` is the work dir, to which paths inside are relative."""

    def __init__(self, names: Sequence[str], salt: bytes | None, base: Path) -> None:
        self.salt, self.base = salt, base
        self._done: dict[str, str] = {}
        folded = {} if salt is None else {fold(name)[0]: name for name in names}
        # A number names nobody but where it is a folder's or file's whole name.
        self._numbers = {key: name for key, name in folded.items() if not any(map(str.isalpha, key))}
        self._names = {key: name for key, name in folded.items() if any(map(str.isalpha, key))}

    def name(self, name: str) -> str:
        """A person's name, or what stands for it."""
        return name if self.salt is None else stand_in(name, self.salt)

    def path(self, path: str | os.PathLike[str]) -> str:
        """A path as the record holds it: inside the work dir relative to it, else absolute; parts with names hidden."""
        return self._hidden(relative(path, self.base))

    def absolute(self, path: str | os.PathLike[str]) -> str:
        """The same, never relative."""
        return self._hidden(str(Path(path).resolve()))

    def text(self, text: str | None) -> str | None:
        """Free text, in which names are found whatever their case and separators."""
        if text is None or self.salt is None:
            return text
        for word in re.findall(r"\S*%[0-9A-Fa-f]{2}\S*", text):  # Ann%20Lee
            if self._found(unquote(word)):
                text = text.replace(word, stand_in(word, self.salt))
        done, last = [], 0
        for start, end, name in self._found(text):
            done += [text[last:start], stand_in(name, self.salt)]
            last = end
        return "".join([*done, text[last:]])

    def _hidden(self, path: str) -> str:
        if self.salt is None:
            return path
        for part in Path(path).parts:
            if part not in self._done:
                self._done[part] = self._part(part)
        return str(Path(*(self._done[part] for part in Path(path).parts)))

    def _part(self, part: str) -> str:
        assert self.salt is not None
        whole = {fold(part)[0], fold(Path(part).stem)[0]}
        if whole & self._numbers.keys() or self._found(part) or (unquote(part) != part and self._found(unquote(part))):
            return stand_in(part, self.salt)
        return part

    def _found(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, name) of names in a text, from left to right, the longest where several overlap."""
        folded, places = fold(text)
        hits = []
        for key, name in self._names.items():
            at = folded.find(key)
            while at >= 0:
                start, end = places[at], places[at + len(key) - 1] + 1
                if len(key) >= RUN_TOGETHER or (_edge(text, start) and _edge(text, end)):
                    hits.append((start, end, name))
                at = folded.find(key, at + 1)
        found: list[tuple[int, int, str]] = []
        for hit in sorted(hits, key=lambda hit: (hit[0] - hit[1], hit[0])):
            if all(hit[1] <= start or hit[0] >= end for start, end, _ in found):
                found.append(hit)
        return sorted(found)


def _edge(text: str, place: int) -> bool:
    """Whether a word ends, or another begins, before ``text[place]``."""
    before, after = text[place - 1 : place], text[place : place + 1]
    if not before.isalnum() or not after.isalnum():
        return True
    return before.isalpha() != after.isalpha() or (before.islower() and after.isupper())


def find_place(path: str, folder: Path) -> Path:
    """Where a path of a record is: hidden parts are looked up among what lies there, with the record's salt.

    Raises:
        FileNotFoundError: A hidden part cannot be found, and why.
    """
    salt: bytes | None = None
    place = folder
    for part in Path(path).parts:
        following = place / part
        if _STAND_IN.fullmatch(part) and not following.exists():
            salt = read_salt(folder) if salt is None else salt
            fitting = [name for name in _listing(place) if stand_in(name, salt) == part]
            if not fitting:
                raise FileNotFoundError(
                    f"'{part}' stands for a hidden name, and nothing in '{place}' has that name any more"
                )
            following = place / fitting[0]
        place = following
    return place


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def names_near(places: Sequence[Path]) -> list[str]:
    """Names of folders in some places and one level below: what a hidden name of a person may be."""
    found: dict[str, None] = {}
    for place in places:
        for name in _listing(place):
            if (place / name).is_dir():
                found[name] = None
                found.update(
                    dict.fromkeys(below for below in _listing(place / name) if (place / name / below).is_dir())
                )
    return list(found)
