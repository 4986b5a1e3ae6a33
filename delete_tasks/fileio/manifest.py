"""Manifest of a work dir, which lists the files that runs wrote, and the links that a work dir may not hold."""

import json
import os
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import RequestError, not_written
from .inputs import kind_of, read_text
from .validate import parse_json

MANIFEST, LOCK = ".delete-tasks.json", ".delete-tasks.lock"
TEMPORARY = ".delete-tasks.tmp"  # suffix of unfinished files
FORMAT, VERSION = "delete-tasks work dir", 1


def holds_files(path: Path) -> bool:
    """Return True if a path is a non-empty folder."""
    return path.is_dir() and any(path.iterdir())


def delete_path(path: Path) -> None:
    """Delete a file, a link or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def refuse_links(folder: Path) -> None:
    """Raise :class:`RequestError` for a link, a pipe or a device in a work dir, in the place of which a run might write."""
    for item in folder.iterdir() if folder.is_dir() else ():
        kind = f"a link to '{os.readlink(item)}'" if item.is_symlink() else kind_of(item)
        if kind is not None:
            raise RequestError(
                f"--work-dir '{folder}' holds '{item.name}', which is {kind}, and outputs follow no link; delete it, or give "
                "another folder"
            )
    lock = folder / LOCK
    if lock.is_dir() or (lock.is_file() and lock.stat().st_size):
        raise RequestError(f"'{lock}' is not the lock of a run, since it is not empty; move it away")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest; return an empty dict if there is none, or none that is valid."""
    try:
        content = parse_json(read_text(folder / MANIFEST, errors="surrogateescape"))
        if (content["format"], content["version"]) != (FORMAT, VERSION) or not isinstance(content["files"], list):
            raise ValueError
        finished = content.get("finished") or None
        datetime.fromisoformat(finished or "2026-01-01")
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    # Runs write no absolute path, and none outside of the folder.
    names = [name for name in content["files"] if isinstance(name, str) and Path(name).parts]
    inside = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    listed = content.get("states")
    states = [name for name in inside if name in listed] if isinstance(listed, list) else []
    return {"request": content.get("request"), "files": inside, "states": states, "finished": finished}


def write_manifest(
    folder: Path, request: str, finished: str | None, files: Iterable[str], states: Iterable[str]
) -> None:
    """Write the manifest whole or raise :class:`OutputError`; a finished run has yet to delete the files ``states``."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "request": request, "finished": finished}
    content |= {"files": sorted(files), "states": sorted(states)}
    temporary, text = folder / f"{MANIFEST}{TEMPORARY}", json.dumps(content, indent=1)
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "x", encoding="utf-8", errors="surrogateescape") as file:  # follows no link
            file.write(text)
        os.replace(temporary, folder / MANIFEST)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise not_written(folder / MANIFEST, error, len(text)) from error
