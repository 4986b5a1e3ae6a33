"""Work dir of a run: its lock, and the manifest of the files that may be overwritten or deleted.

A run claims its work dir before it writes. The claim holds a lock, so that two runs never mix their outputs, and a manifest of
every file that the run wrote (``.delete-tasks.json``). Files that are not in the manifest are never deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError, RequestError, not_written
from .processes import process_rank
from .validate import parse_json

MANIFEST, LOCK = ".delete-tasks.json", ".delete-tasks.lock"
TEMPORARY = ".delete-tasks.tmp"  # suffix of unfinished files
FORMAT, VERSION = "delete-tasks work dir", 1

_CLAIMED: dict[Path, WorkDir] = {}


class WorkDir:
    """Claimed work dir, made by :func:`claim`, and a context manager.

    Attributes:
        path: The folder, resolved.
        started: True after the first step or result. A run that fails before deletes what it wrote.
        keep_states: Keep the run's states when it is complete.
    """

    # A process that is not the first has no lock and writes nothing.
    def __init__(self, path: Path, request: str, files: Iterable[str], made: list[Path], lock: Any) -> None:
        self.path, self.request = path, request
        self.files, self.written, self.states = set(files), set[str](), set[str]()
        self._before = frozenset(self.files)
        self.started = self.keep_states = False
        self._made, self._lock, self._depth = made, lock, 0

    def __enter__(self) -> WorkDir:
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Unlock; delete the states of a complete run, or all files of a run that failed before its first step."""
        self._depth -= 1
        if self._depth or self._lock is None:
            return
        complete = kind is None
        _CLAIMED.pop(self.path, None)
        obsolete = self.states if complete and not self.keep_states else set()
        if not complete and not self.started:
            obsolete = self.written - self._before
        for name in sorted(obsolete):
            with contextlib.suppress(OutputError):  # of the manifest on a full disk; the files are deleted
                self.remove(self.path / name)
        if not any((self.path / name).exists() for name in self.files):
            (self.path / MANIFEST).unlink(missing_ok=True)
        (self.path / LOCK).unlink(missing_ok=True)  # before the release, or another run's lock might be deleted
        self._lock.release()
        _remove_empty(self._made)

    def own(self, path: str | os.PathLike[str], *, state: bool = False) -> None:
        """Note in the manifest that this run is about to write ``path``, a file or folder; outside of the work dir do nothing.
        ``state`` marks a state to resume from, which is deleted when the run is complete."""
        name = self._name(path)
        if self._lock is None or name is None:
            return
        if name not in self.files and holds_files(self.path / name):
            return  # the user's folder, at the path of a file
        self.written.add(name)
        if state:
            self.states.add(name)
        if name not in self.files:
            self.files.add(name)
            self._save()

    def remove(self, path: str | os.PathLike[str]) -> bool:
        """Delete a file or folder if a run of this request wrote it; return True if it is deleted."""
        name = self._name(path)
        if name is None or name not in self.files:
            return False
        delete_path(self.path / name)
        self.files.discard(name)
        self.written.discard(name)
        self.states.discard(name)
        self._save()
        return True

    def retire(self) -> None:
        """Delete the files of earlier runs that this run has not written; called before the first new result is written."""
        for name in sorted(self.files - self.written):
            self.remove(self.path / name)

    def _name(self, path: str | os.PathLike[str]) -> str | None:
        full = _in_place(path)
        return full.relative_to(self.path).as_posix() if full.is_relative_to(self.path) else None

    def _save(self) -> None:
        content = {"format": FORMAT, "version": VERSION, "request": self.request, "files": sorted(self.files)}
        temporary, text = self.path / f"{MANIFEST}{TEMPORARY}", json.dumps(content, indent=1)
        try:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
            os.replace(temporary, self.path / MANIFEST)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise not_written(self.path / MANIFEST, error, len(text)) from error


def claim(
    path: str | os.PathLike[str],
    request: Mapping[str, Any],
    *,
    originals: Iterable[str | os.PathLike[str] | None] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> WorkDir:
    """Claim a work dir until the end of its ``with`` block; a second claim by the same process returns the same object.

    Args:
        path: The work dir; created, with its parents, if it does not exist.
        request: JSON values that are equal for runs of the same request (command, original, classes, data).
        originals: Files and folders that the run reads and must not change, such as the original model.
        overwrite: Accept a folder with other files. Only files of the names that this run writes are replaced.
        resume: Accept a folder that a run of another request wrote; the resumed run compares the requests itself.

    Raises:
        RequestError: ``path`` is a file or cannot be resolved; it contains an original or lies in an original's folder; another
            run has claimed it; or it holds files of no earlier run of this request, without ``overwrite``.
    """
    try:
        folder = Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, or an unknown user
        raise RequestError(f"'{path}' cannot be resolved ({error}); give another path") from error
    if folder in _CLAIMED:
        return _CLAIMED[folder]
    if process_rank() != 0:
        return WorkDir(folder, "", (), [], None)
    _refuse_originals(folder, [Path(original).resolve() for original in originals if original is not None])
    blocking = next((part for part in (folder, *folder.parents) if part.exists()), folder)
    if not blocking.is_dir():
        raise RequestError(f"--work-dir '{path}': '{blocking}' is a file; give the path of a folder, new or empty")
    text = json.dumps(request, sort_keys=True, default=str).encode(errors="backslashreplace")
    manifest = _read_manifest(folder)
    digest = manifest["request"] if resume and manifest else hashlib.sha256(text).hexdigest()
    if not overwrite:
        _refuse_foreign(folder, path, manifest, digest)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _lock(folder)
    except BaseException:
        _remove_empty(made)
        raise
    for leftover in list(folder.rglob(f".*{TEMPORARY}")):  # half-written files and temporary folders of a killed run
        delete_path(leftover)
    # Read again: a run that has just ended may have changed it.
    work_dir = WorkDir(folder, digest, _read_manifest(folder).get("files", ()), made, lock)
    _CLAIMED[folder] = work_dir
    return work_dir


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def claimed(path: str | os.PathLike[str]) -> WorkDir | None:
    """Find the innermost work dir of this process that contains a path, or None."""
    full = _in_place(path)
    work_dirs = [work_dir for folder, work_dir in _CLAIMED.items() if full.is_relative_to(folder)]
    return max(work_dirs, key=lambda work_dir: len(work_dir.path.parts), default=None)


def _in_place(path: str | os.PathLike[str]) -> Path:
    """Make a path absolute and follow the links in its folder; the last part may be a link."""
    full = Path(os.path.abspath(path))
    return full.parent.resolve() / full.name


def passing(folder: Path) -> set[Path]:
    """List the files in a work dir of this process that are deleted when its run is complete: lock, and states unless kept."""
    work_dir = claimed(folder)
    if work_dir is None:
        return set()
    return {work_dir.path / name for name in (LOCK, *(() if work_dir.keep_states else work_dir.states))}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder in this process's work dir, where the next run deletes what a kill left, or in the system's."""
    work_dir = next(iter(_CLAIMED.values()), None)
    if work_dir is None:
        return tempfile.TemporaryDirectory(prefix="delete_tasks_")
    return tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=work_dir.path)


def holds_files(path: Path) -> bool:
    """Return True if a path is a non-empty folder."""
    return path.is_dir() and any(path.iterdir())


def delete_path(path: Path) -> None:
    """Delete a file, a link or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refuse_originals(folder: Path, originals: list[Path]) -> None:
    for original in originals:
        if original == folder or original.is_relative_to(folder):
            raise RequestError(
                f"'{original}' is in the work dir '{folder}', whose files a run replaces; give another --work-dir"
            )
        if folder.is_relative_to(original):
            raise RequestError(
                f"the work dir '{folder}' is in '{original}', which is read; give a --work-dir outside of it"
            )


def _refuse_foreign(folder: Path, path: Any, manifest: Mapping[str, Any], digest: str) -> None:
    if not folder.is_dir() or manifest.get("request") == digest:
        return
    # Half-written files of a run that was killed at once may be replaced.
    items = (item.relative_to(folder) for item in folder.rglob("*") if not item.is_dir() and item.name != LOCK)
    first = next((item for item in items if not any(part.endswith(TEMPORARY) for part in item.parts)), None)
    if first is not None:
        content = "another run's files" if manifest else f"other files ('{first}')"
        raise RequestError(
            f"--work-dir '{path}' holds {content}; give a new folder, or --overwrite to replace files of the same names as this "
            "run's"
        )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest; return an empty dict if there is none, or none that is valid."""
    try:
        content = parse_json((folder / MANIFEST).read_text(encoding="utf-8", errors="surrogateescape"))
        valid = (content["format"], content["version"]) == (FORMAT, VERSION) and isinstance(content["files"], list)
    except (OSError, ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        return {}
    # Runs write no absolute path, and none outside of the folder.
    names = [name for name in content["files"] if isinstance(name, str) and Path(name).parts]
    inside = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return {"request": content.get("request"), "files": inside}


def _lock(folder: Path) -> FileLock:
    umask = os.umask(0o077)  # which can only be read by setting it
    os.umask(umask)
    lock = FileLock(folder / LOCK, mode=0o666 & ~umask)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RequestError(f"another run is using '{folder}'; wait for it, or give another --work-dir") from error
    return lock
