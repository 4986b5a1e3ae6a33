"""Log of records: one line of JSON for each record, appended to the file of ``--record-log``."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import RequestError
from ...fileio.inputs import open_regular


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
