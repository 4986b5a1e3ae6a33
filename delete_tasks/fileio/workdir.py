"""A run's work dir: whose it is, what the run wrote there, and so what it may overwrite or delete.

A run claims its work dir before it writes anything. The claim holds a lock, so that two runs never mix their outputs, and a
manifest of every file that the run wrote (``.delete-tasks.json``). Nothing outside of the manifest is ever deleted.
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

MANIFEST, LOCK = ".delete-tasks.json", ".delete-tasks.lock"
TEMPORARY = ".delete-tasks.tmp"  # how the names of files end that are not whole yet
FORMAT, VERSION = "delete-tasks work dir", 1

_CLAIMED: dict[Path, WorkDir] = {}


class WorkDir:
    """A claimed work dir; use :func:`claim`, as a context manager.

    Attributes:
        path: The folder, resolved.
        started: A step was taken or a result written. A run that fails before takes away what it wrote.
        keep_states: Leave the run's states when it is complete.
    """

    # Without a lock it is of a process that is not the first, and that writes nothing.
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
        self._depth -= 1
        if self._depth == 0:
            self.release(complete=kind is None)

    def own(self, path: str | os.PathLike[str], *, state: bool = False) -> None:
        """Note, on disk, that this run is about to write ``path`` (a file, or a folder and all in it).

        Args:
            path: Inside the work dir; others are not noted.
            state: It is a state to resume from, which goes when the run is complete.
        """
        name = self._name(path)
        if self._lock is None or name is None or (name not in self.files and holds_files(self.path / name)):
            return  # a folder of somebody's, in the way of a file
        self.written.add(name)
        if state:
            self.states.add(name)
        if name not in self.files:
            self.files.add(name)
            self._save()

    def remove(self, path: str | os.PathLike[str]) -> bool:
        """Delete a file or folder if a run of this request wrote it; says whether it is gone."""
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
        """Delete what earlier runs wrote here and this one has not: called when the first new result is at hand."""
        for name in sorted(self.files - self.written):
            self.remove(self.path / name)

    def release(self, complete: bool) -> None:
        """Unlock. A complete run's states go; of one that failed before its first step, all that it wrote."""
        if self._lock is None:
            return
        _CLAIMED.pop(self.path, None)
        going = self.states if complete and not self.keep_states else set()
        if not complete and not self.started:
            going = self.written - self._before
        for name in sorted(going):
            with contextlib.suppress(OutputError):  # on a full disk the files go all the same
                self.remove(self.path / name)
        if not any((self.path / name).exists() for name in self.files):
            (self.path / MANIFEST).unlink(missing_ok=True)
        (self.path / LOCK).unlink(missing_ok=True)  # while it is held, so that nobody else's goes
        self._lock.release()
        _take_back(self._made)

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
    """Take a work dir for a run; a second claim by the same process gives the same object.

    Args:
        path: The work dir; made, with its parents, if it is not there.
        request: What makes two runs the same request (command, original, classes, data), as JSON values.
        originals: Files and folders that the run reads and must not touch, such as the original model.
        overwrite: Take a folder that holds other things, too. They stay, but for files of the names this run writes.
        resume: Take a folder that an earlier run wrote, whatever its request: resuming compares them itself.

    Returns:
        The work dir; enter it, and all is released when it is left.

    Raises:
        RequestError: A file is in its place; an original lies in it, or it in an original's folder; another run is at
            work there; it holds files that are no earlier run of this request, without ``overwrite``.
    """
    folder = real_path(path)
    if folder in _CLAIMED:
        return _CLAIMED[folder]
    if process_rank() != 0:
        return WorkDir(folder, "", (), [], None)
    _refuse_originals(folder, [Path(given).resolve() for given in originals if given is not None])
    blocking = next((part for part in (folder, *folder.parents) if part.exists()), folder)
    if not blocking.is_dir():
        raise RequestError(f"--work-dir '{path}': '{blocking}' is a file; give the path of a folder, new or empty")
    asked = json.dumps(request, sort_keys=True, default=str).encode(errors="backslashreplace")
    digest = hashlib.sha256(asked).hexdigest()
    known = _read_manifest(folder)
    if resume and known:
        digest = known["request"]
    if not overwrite:
        _refuse_foreign(folder, path, known, digest)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _lock(folder)
    except BaseException:
        _take_back(made)
        raise
    for left in list(folder.rglob(f".*{TEMPORARY}")):  # of a killed run: half-written files, folders for the time being
        delete_path(left)
    # Read again: a run that ended just now may have changed it.
    work_dir = WorkDir(folder, digest, _read_manifest(folder).get("files", ()), made, lock)
    _CLAIMED[folder] = work_dir
    return work_dir


def _take_back(made: Iterable[Path]) -> None:
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing is in it


def real_path(path: str | os.PathLike[str]) -> Path:
    """Resolve a path, following links.

    Raises:
        RequestError: Nowhere: links that lead in a circle, or a user who is not known.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise RequestError(f"'{path}' leads nowhere ({error}); give another path") from error


def claimed(path: str | os.PathLike[str]) -> WorkDir | None:
    """Find this process's claim that contains a path, or None."""
    full = _in_place(path)
    fitting = [held for folder, held in _CLAIMED.items() if full.is_relative_to(folder)]
    return max(fitting, key=lambda held: len(held.path.parts), default=None)


def _in_place(path: str | os.PathLike[str]) -> Path:
    """Make a path absolute and follow the links in its folder; the last part may be a link."""
    full = Path(os.path.abspath(path))
    return full.parent.resolve() / full.name


def passing(folder: Path) -> set[Path]:
    """Files in a work dir of this process that go when its run is complete: the lock, and states unless they are kept."""
    held = claimed(folder)
    if held is None:
        return set()
    return {held.path / name for name in (LOCK, *(() if held.keep_states else held.states))}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder: in this process's work dir, from which leftovers of a kill are removed, or the system's."""
    held = next(iter(_CLAIMED.values()), None)
    if held is None:
        return tempfile.TemporaryDirectory(prefix="delete_tasks_")
    return tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=held.path)


def holds_files(path: Path) -> bool:
    """Return True if a path is a folder that is not empty."""
    return path.is_dir() and any(path.iterdir())


def delete_path(path: Path) -> None:
    """Delete a file, a link or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refuse_originals(folder: Path, originals: list[Path]) -> None:
    for original in originals:
        if original == folder or original.is_relative_to(folder):
            raise RequestError(
                f"'{original}' lies in the work dir '{folder}', whose files a run replaces; give another --work-dir"
            )
        if folder.is_relative_to(original):
            raise RequestError(
                f"the work dir '{folder}' lies in '{original}', which is read; give a --work-dir outside of it"
            )


def _refuse_foreign(folder: Path, path: Any, known: Mapping[str, Any], digest: str) -> None:
    if not folder.is_dir() or known.get("request") == digest:
        return
    # Half-written files of a run that was killed at once are nobody's.
    found = (item.relative_to(folder) for item in folder.rglob("*") if not item.is_dir() and item.name != LOCK)
    first = next((item for item in found if not any(part.endswith(TEMPORARY) for part in item.parts)), None)
    if first is not None:
        what = "another run's files" if known else f"other files ('{first}')"
        raise RequestError(
            f"--work-dir '{path}' holds {what}; give a new folder, or --overwrite to replace what has the names of this "
            "run's files"
        )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest; an empty dict if there is none that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8", errors="surrogateescape"))
        known = (content["format"], content["version"]) == (FORMAT, VERSION) and isinstance(content["files"], list)
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        return {}
    # A name that leads elsewhere is not one that a run wrote.
    names = [name for name in content["files"] if isinstance(name, str) and Path(name).parts]
    good = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return {"request": content.get("request"), "files": good}


def _lock(folder: Path) -> FileLock:
    umask = os.umask(0o077)  # which can only be read by setting it
    os.umask(umask)
    lock = FileLock(folder / LOCK, mode=0o666 & ~umask)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RequestError(f"another run is at work in '{folder}'; wait for it, or give another --work-dir") from error
    return lock
