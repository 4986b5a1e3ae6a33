"""The log of records: a line of JSON for each record, appended to the file that ``--record-log`` names."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import RequestError


def check_log(path: Path) -> None:
    """Refuse a log that a run could not append to, before the run; nothing is written.

    Raises:
        RequestError: It is no file, does not begin as a log does, or cannot be written.
    """
    other = "give another with --record-log FILE"
    if path.exists() and not path.is_file():
        raise RequestError(f"the log of records '{path}' is no file; {other}")
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        why = "not writable" if place.is_dir() or place == path else "no folder"
        raise RequestError(f"the log of records '{path}' cannot be written ('{place}' is {why}); {other}")
    if path.is_file():
        with open(path, "rb") as file:
            begin = file.read(1)
        if begin not in (b"", b"{"):
            raise RequestError(f"'{path}' does not begin with '{{', so it is no log of records; {other}")


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one line with a single write, on disk when this returns. A last line without a line break, as a killed run may leave
    it, gets one first.

    Raises:
        OSError: The file cannot be written.
    """
    line = json.dumps(entry, sort_keys=True).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
