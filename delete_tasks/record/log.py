"""records.jsonl: one line for each record, appended and never rewritten; each line carries the digest of the line before.

A run that is killed while it appends leaves half a line behind. The next one cuts it off, and its own line says what was cut, as
``torn_line``: two lines are never glued together, and nothing that was there is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RequestError

LOG = "records.jsonl"
FIRST = "0" * 64  # in the place of a line before the first
_NEEDED = ("id", "line_before_sha256", "original_tensors_sha256", "path", "record_sha256")
_BEGIN = b'{"'  # of every line


class Entry(NamedTuple):
    """A line: what it says, and the SHA-256 of its bytes."""

    content: dict[str, Any]
    sha256: str


class Log(NamedTuple):
    """A log's whole lines, and the bytes behind the last line break, if any."""

    entries: list[Entry]
    tail: bytes


def read_log(path: Path) -> Log:
    """The log at ``path``; empty where there is none.

    A last line that is whole but for its line break is both an entry and the tail.

    Raises:
        RequestError: It is no log of records, or a line amid it is damaged.
    """
    if not path.is_file():
        return Log([], b"")
    *lines, tail = path.read_bytes().split(b"\n")
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1)]
    if tail:
        try:
            entries.append(_entry(path, len(lines) + 1, tail))
        except RequestError:
            # Half a line of ours begins as ours do; where the power failed, zeros may follow.
            start = tail.rstrip(b"\0")[: len(_BEGIN)]
            if not _BEGIN.startswith(start):
                raise
    return Log(entries, tail)


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        content = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        content = None
    good = isinstance(content, dict) and all(isinstance(content.get(key), str) for key in _NEEDED)
    if not good or not isinstance(content.get("erased_tensors_sha256", 0), (str, type(None))):
        raise RequestError(
            f"line {number} of '{path}' is no entry of a log of records; move that file away, or give another place for the "
            "log with --record-log FILE"
        )
    return Entry(content, hashlib.sha256(line).hexdigest())


def check_log(path: Path) -> None:
    """Refuse a log that a run could not append to, before the run; nothing is written.

    Raises:
        RequestError: It is no log of records, no file, or cannot be written.
    """
    if path.exists() and not path.is_file():
        raise RequestError(f"the log of records '{path}' is no file; give one with --record-log FILE")
    read_log(path)
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise RequestError(
            f"the log of records '{path}' cannot be written ('{place}' is "
            f"{'not writable' if place.is_dir() or place == path else 'no folder'}); give another with --record-log FILE"
        )


def find_previous(entries: Sequence[Entry], original_tensors: str) -> dict[str, Any] | None:
    """The latest record on the same model: one whose result, or else whose original, has these tensors."""
    for role in ("erased_tensors_sha256", "original_tensors_sha256"):
        for entry, _ in reversed(entries):
            if entry.get(role) == original_tensors:
                return {name: entry[name] for name in ("id", "record_sha256", "path")}
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One writer at a time, so that no two records name the same one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:  # not on Windows
            pass
        yield


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line, on disk when this returns; a torn line at the end is cut off into it.

    Raises:
        RequestError: As :func:`read_log`.
    """
    entries, tail = read_log(path)
    whole = {**entry, "line_before_sha256": entries[-1].sha256 if entries else FIRST}
    complete = bool(entries) and hashlib.sha256(tail).hexdigest() == entries[-1].sha256
    if tail and not complete:
        whole["torn_line"] = tail.decode("utf-8", "backslashreplace")
        os.truncate(path, path.stat().st_size - len(tail))
    with open(path, "ab") as file:
        file.write((b"\n" if tail and complete else b"") + json.dumps(whole, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def check_chain(entries: Sequence[Entry]) -> str | None:
    """What is wrong with the chain of digests, or None."""
    before = FIRST
    for number, (entry, digest) in enumerate(entries, 1):
        if entry["line_before_sha256"] != before:
            return f"line {number} does not follow the line before it: a line was changed, taken out or put in"
        before = digest
    return None
