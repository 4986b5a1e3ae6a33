"""records.jsonl: one line for each record, appended and never rewritten; each line carries the digest of the line before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError

LOG = "records.jsonl"
FIRST = "0" * 64  # in the place of a line before the first


def read_log(path: Path) -> list[tuple[dict[str, Any], str]]:
    """(entry, SHA-256 of its line) of each line; empty where there is no log.

    Raises:
        RequestError: A line that is no JSON object.
    """
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            entry["id"]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f"'{path}', line {number} is no entry of a log of records: {error}") from error
        found.append((entry, hashlib.sha256(line).hexdigest()))
    return found


def find_previous(path: Path, original_tensors: str) -> dict[str, Any] | None:
    """The latest record on the same model: one whose result, or else whose original, has these tensors."""
    entries = [entry for entry, _ in read_log(path)]
    for role in ("erased_tensors_sha256", "original_tensors_sha256"):
        for entry in reversed(entries):
            if entry.get(role) == original_tensors:
                return {"id": entry["id"], "record_sha256": entry["record_sha256"], "path": entry["path"]}
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
    """Add one line, on disk when this returns."""
    entries = read_log(path)
    whole = {**entry, "line_before_sha256": entries[-1][1] if entries else FIRST}
    with open(path, "ab") as file:
        file.write(json.dumps(whole, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def check_chain(path: Path) -> str | None:
    """What is wrong with the log's chain of digests, or None."""
    before = FIRST
    for number, (entry, digest) in enumerate(read_log(path), 1):
        if entry.get("line_before_sha256") != before:
            return f"line {number} does not follow the line before it: a line was changed, taken out or put in"
        before = digest
    return None
