"""Files of a record: their names; samples.txt, with a line ``KIND<tab>NAME`` for each sample that a run read or was measured on;
and the log of records, with a line of JSON for each, appended to the file of ``--record-log``."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...display.terminal import from_line, one_line
from ...errors import RequestError
from ...fileio.atomic import save_text
from ...fileio.inputs import open_regular, read_bytes
from .people import hashed

FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 3
RECORD, PAGE, SAMPLES, ATTENTION = "record.json", "record.html", "samples.txt", "attention.jpg"
CARD_WEIGHTS = "model.safetensors"  # of the erased model, in the folder of a card
UNKNOWN = "not known to this program"  # where residue is


def write_samples(path: Path, names: Mapping[str, Sequence[str]], salt: bytes | None) -> None:
    """Write the list, with a ``salt`` as salted hashes of the names, sorted, since the names' order tells whose they are."""
    lines = [
        f"{one_line(kind)}\t{name}\n"
        for kind, listed in names.items()
        for name in (map(one_line, listed) if salt is None else sorted(hashed(name, salt) for name in listed))
    ]
    save_text("".join(lines), path)


class SampleList:
    """List of samples from samples.txt (``salt``: of hashed names); a malformed line raises :class:`RequestError`."""

    def __init__(self, path: Path, salt: bytes | None) -> None:
        self.path, self.salt = path, salt
        self._lines: dict[str, list[str]] = {}
        for line in read_bytes(path).decode("utf-8", "backslashreplace").split("\n")[:-1]:
            kind, _, name = line.partition("\t")
            try:
                self._lines.setdefault(from_line(kind), []).append(name if salt is not None else from_line(name))
            except ValueError as error:
                raise RequestError(f"'{path}': cannot read the line {line!r}") from error

    def places(self, kind: str, names: Sequence[str]) -> list[int]:
        """Return the indices in ``names`` of the samples of a kind, in the list's order, or ascending if it is of hashed names;
        raise :class:`RequestError` if one is missing or a name occurs twice."""
        indices: dict[str, int] = {}
        for index, name in enumerate(names):
            key = name if self.salt is None else hashed(name, self.salt)
            if indices.setdefault(key, index) != index:
                raise RequestError(f"the data hold two samples with the name '{name}', so the listed one is ambiguous")
        listed = self._lines.get(kind, [])
        missing = sum(name not in indices for name in listed)
        if missing:
            raise RequestError(f"{missing} of {len(listed)} samples ({kind}) are not in the data any more")
        places = [indices[name] for name in listed]
        return places if self.salt is None else sorted(places)


def check_log(path: Path) -> None:
    """Check without writing that a log can be appended to; raise :class:`RequestError` if not."""
    advice = "pass another file to --record-log"
    if path.exists() and not path.is_file():
        raise RequestError(f"the log of records '{path}' is no file; {advice}")
    place = next(part for part in (path, *path.parents) if part.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        reason = "not writable" if place.is_dir() or place == path else "no folder"
        raise RequestError(f"the log of records '{path}' cannot be written ('{place}' is {reason}); {advice}")
    if path.is_symlink():
        raise RequestError(f"the log of records '{path}' is a link, and outputs follow no link; {advice}")
    if path.is_file():
        with open_regular(path) as file:
            if not b'{"'.startswith(file.read(2)):  # JSON in several lines begins with a brace alone
                raise RequestError(f"'{path}' does not begin with '{{\"', so it is no log of records; {advice}")


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a line at once and sync it, after completing a line that a killed run left; raise OSError if writing fails."""
    line = json.dumps(entry, sort_keys=True).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(handle, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
