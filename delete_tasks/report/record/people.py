"""Salted hashes in place of people's names in a record, with the salt in a separate file.

Names are replaced when values are entered, so that dates, versions and keys never change. A component of a path that contains a
name, in any case and with any separators, is replaced as a whole; it can be found again while the folders exist.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ...errors import RequestError
from ...fileio.atomic import save_bytes
from ...fileio.digests import relative
from ...fileio.inputs import read_text

SALT = "record.salt"
RUN_TOGETHER = 4  # letters and digits; a shorter name matches only a whole word
# Scripts: Thai, Lao, Japanese, Chinese.
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_STAND_IN = re.compile("person-[0-9a-f]{12}")
# In alphabetical order, which tells whose they are.
_LIST = re.compile(f"{_STAND_IN.pattern}(, {_STAND_IN.pattern}){{2,}}")


def save_salt(folder: Path, salt: bytes) -> None:
    """Write ``folder/record.salt``, at all times readable only by its owner."""
    save_bytes(f"{salt.hex()}\n".encode(), folder / SALT, 0o600)


def read_salt(folder: Path) -> bytes:
    """Read a record's salt; raise :class:`FileNotFoundError` if it is missing, :class:`RequestError` if it is damaged."""
    path = folder / SALT
    if not path.is_file():
        raise FileNotFoundError(f"no {SALT} in '{folder}'; without it no name can be compared with the record")
    try:
        return bytes.fromhex(read_text(path).strip())
    except ValueError as error:
        raise RequestError(f"'{path}' is no salt ({error}); restore it from a copy") from error


def hashed(name: str, salt: bytes) -> str:
    """Compute the SHA-256 of salt and name, as hex."""
    return hashlib.sha256(salt + name.encode("utf-8", "surrogatepass")).hexdigest()


def stand_in(name: str, salt: bytes) -> str:
    """Return the replacement of a person's name, or of a path component that contains one."""
    return f"person-{hashed(name, salt)[:12]}"


def find_forgotten(classes: Sequence[Mapping[str, Any]], salt: bytes | None, names: Sequence[str]) -> list[int]:
    """Find the indices of a record's forgotten ``classes`` in ``names``; raise RequestError if a hidden one is not there."""
    hashes = [] if salt is None else [hashed(name, salt) for name in names]
    try:
        return [hashes.index(one["salted_sha256"]) if one["id"] is None else one["id"] for one in classes]
    except ValueError as error:
        reason = "a hidden name has no hash among them"
        raise RequestError(f"the record is about none of the original's classes: {reason}") from error


def fold(text: str) -> tuple[str, list[int]]:
    """Return a text's letters and digits without case and accents, and the index in ``text`` of each."""
    plain = (unicodedata.normalize("NFKD", original.casefold()) for original in text)
    letters = [(letter, index) for index, part in enumerate(plain) for letter in filter(str.isalnum, part)]
    return "".join(letter for letter, _ in letters), [index for _, index in letters]


def whole_word(key: str) -> bool:
    """Return True if a folded name matches whole words only, since it is short and of a script that separates words."""
    return len(key) < RUN_TOGETHER and not _WITHOUT_SPACES.search(key)


class Hider:
    """Replacement of people's names (none without a salt). Paths inside ``base``, the work dir, become relative to it."""

    def __init__(self, names: Sequence[str], salt: bytes | None, base: Path) -> None:
        self.salt, self.base = salt, base
        self._component = cache(self._hide_component)
        folded = {} if salt is None else {fold(name)[0]: name for name in names}
        # Purely numeric names match only whole path components.
        self._names = {key: name for key, name in folded.items() if any(map(str.isalpha, key))}
        self._numbers = folded.keys() - self._names.keys()

    def name(self, name: str) -> str:
        """Hide a person's name."""
        return name if self.salt is None else stand_in(name, self.salt)

    def path(self, path: str | os.PathLike[str]) -> str:
        """Hide names in a path, relative inside the work dir and else absolute."""
        return self._hidden(relative(path, self.base))

    def place(self, text: str) -> str:
        """Hide names in a path, with or without the options of a data string; in other text as :meth:`text`."""
        path, mark, query = text.partition("?")
        return self.path(path) + str(self.text(mark + query)) if Path(path).is_absolute() else str(self.text(text))

    def absolute(self, path: str | os.PathLike[str]) -> str:
        """Hide names in a path, always absolute."""
        return self._hidden(str(Path(path).resolve()))

    def text(self, text: str | None) -> str | None:
        """Hide names in free text, in any case and with any separators."""
        if text is None or self.salt is None:
            return text
        for word in re.findall(r"\S*%[0-9A-Fa-f]{2}\S*", text):  # Ann%20Lee
            if self._matches(unquote(word)):
                text = text.replace(word, stand_in(word, self.salt))
        for start, end, name in reversed(self._matches(text)):
            text = text[:start] + stand_in(name, self.salt) + text[end:]
        return _LIST.sub(lambda names: f"{names.group().count(',') + 1} people", text)

    def _hidden(self, path: str) -> str:
        return path if self.salt is None else str(Path(*map(self._component, Path(path).parts)))

    def _hide_component(self, part: str) -> str:
        whole = {fold(part)[0], fold(Path(part).stem)[0]}
        named = whole & self._numbers or self._matches(part) or self._matches(unquote(part))
        return stand_in(part, self.salt) if named else part  # type: ignore[arg-type]

    def _matches(self, text: str) -> list[tuple[int, int, str]]:
        """Find (start, end, name) of names in a text, from left to right; of overlapping names the longest."""
        folded, indices = fold(text)
        hits = []
        for key, name in self._names.items():
            at = folded.find(key)
            while at >= 0:
                start, end = indices[at], indices[at + len(key) - 1] + 1
                if not whole_word(key) or (_edge(text, start) and _edge(text, end)):
                    hits.append((start, end, name))
                at = folded.find(key, at + 1)
        matches: list[tuple[int, int, str]] = []
        for hit in sorted(hits, key=lambda hit: (hit[0] - hit[1], hit[0])):
            if all(hit[1] <= start or hit[0] >= end for start, end, _ in matches):
                matches.append(hit)
        return sorted(matches)


def _edge(text: str, index: int) -> bool:
    """Return True if a word ends or begins before ``text[index]``."""
    before, after = text[index - 1 : index], text[index : index + 1]
    if not before.isalnum() or not after.isalnum():
        return True
    return before.isalpha() != after.isalpha() or (before.islower() and after.isupper())


def find_place(path: str, folder: Path) -> Path:
    """Find a path of a record, hidden components by the record's salt; raise FileNotFoundError if one is missing."""
    place = folder
    for part in Path(path).parts:
        if _STAND_IN.fullmatch(part) and not (place / part).exists():
            salt = read_salt(folder)
            named = next((item.name for item in place.glob("*") if stand_in(item.name, salt) == part), None)
            if named is None:
                raise FileNotFoundError(f"'{part}' is a hidden name, and nothing in '{place}' has that name any more")
            part = named
        place = place / part
    return place


def names_near(places: Sequence[Path]) -> set[str]:
    """List the names of folders in some places and one level below, the candidates of hidden names."""
    items = (item for place in places for pattern in ("*", "*/*") for item in place.glob(pattern))
    return {item.name for item in items if item.is_dir()}
