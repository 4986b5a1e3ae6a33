"""Work dir of a run: its lock, and the manifest of the files that may be overwritten or deleted; no other file ever is."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ..errors import CheckpointMismatchError, FinishedError, OutputError, RequestError
from .inputs import marks_of, refuse_inputs, resolved
from .manifest import LOCK, MANIFEST, TEMPORARY, delete_path, holds_files, read_manifest, refuse_links, write_manifest
from .processes import process_rank

_CLAIMED: dict[Path, "WorkDir"] = {}


class WorkDir:
    """Claimed work dir, made by :func:`claim`, and a context manager. A run that fails before it has ``started`` (its first step
    or result) deletes what it wrote; one with ``keep_states`` keeps its states when it is complete."""

    # A process that is not the first has no lock and writes nothing.
    def __init__(self, path: Path, manifest: Mapping[str, Any], made: list[Path], lock: Any) -> None:
        self.path, self.request = path, manifest.get("request", "")  # resolved
        self.files, self.written, self.states = set[str](manifest.get("files", ())), set[str](), set[str]()
        self.finished: str | None = manifest.get("finished")  # when the results in it were complete
        self.given = path
        self.marks: dict[Path, Any] = {}  # of the files that it reads, see inputs.marks_of
        self._before = frozenset(self.files)
        self.started = self.keep_states = self._retired = False
        self._made, self._lock, self._depth = made, lock, 0
        # Held open, since some file systems number a folder anew once it is closed.
        self._handle = None if lock is None else os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> "WorkDir":
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Unlock; delete the states of a complete run, or all files of a run that failed before its first step."""
        self._depth -= 1
        if self._depth or self._handle is None:
            return
        complete = kind is None
        _CLAIMED.pop(self.path, None)
        obsolete = self.states if complete and not self.keep_states else set()
        if not complete and not self.started:
            obsolete = self.written - self._before
        with contextlib.suppress(OutputError):  # a full disk, or a replaced folder
            if complete and self._retired:
                self.finish()
        for name in sorted(obsolete):
            with contextlib.suppress(OutputError):  # of the manifest on a full disk; the files are deleted
                self.remove(self.path / name)
        with contextlib.suppress(OutputError):
            self.check_place(self.path / LOCK)
            if not any((self.path / name).exists() for name in self.files):
                (self.path / MANIFEST).unlink(missing_ok=True)
            (self.path / LOCK).unlink(missing_ok=True)  # before the release, or another run's lock might be deleted
        self._lock.release()
        os.close(self._handle)
        self._handle = None
        _remove_empty(self._made)

    def own(self, path: str | os.PathLike[str], *, state: bool = False) -> None:
        """Note in the manifest that this run is about to write ``path``; a ``state`` to resume from is deleted at the end."""
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

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Delete a file or folder if a run of this request wrote it; raise as :meth:`check_place`."""
        name = self._name(path)
        if name is None or name not in self.files:
            return
        self.check_place(path)
        delete_path(self.path / name)
        for names in (self.files, self.written, self.states):
            names.discard(name)
        self._save()

    def retire(self) -> None:
        """Delete earlier runs' files before the first result; raise :class:`CheckpointMismatchError` for a changed original."""
        self.check_inputs()
        self.reopen()
        self._retired = True
        for name in sorted(self.files - self.written):
            self.remove(self.path / name)

    def reopen(self) -> None:
        """Note that the folder holds an unfinished run; called before its first state is written."""
        if self.finished is not None:
            self.finished = None
            self._save()

    def finish(self) -> None:
        """Note that the folder holds a finished run, which is not done again without ``overwrite``."""
        self.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._save()

    def check_inputs(self) -> None:
        """Raise :class:`CheckpointMismatchError` if a file that the run reads was changed since the claim."""
        for path, mark in self.marks.items():
            if marks_of([path]).get(path) != mark:
                raise CheckpointMismatchError(
                    f"'{path}' was changed during the run, so a record would name another file than the run's; put the file back "
                    "and run the command with --resume, or start anew with --overwrite"
                )

    def check_place(self, path: str | os.PathLike[str]) -> None:
        """Raise OutputError if the run would write elsewhere: the work dir was replaced, or a link leads out of it."""
        name = self._name(path)
        if self._handle is None or name is None:
            return
        for folder in (self.path, self.given):
            if not folder.exists() or not os.path.samestat(folder.stat(), os.fstat(self._handle)):
                raise OutputError(f"the work dir '{folder}' was deleted or replaced during the run; nothing is written")
        for parent in reversed((self.path / name).parents[: -len(self.path.parts)]):
            if parent.is_symlink():
                raise OutputError(
                    f"cannot write '{path}': '{parent}' is a link to '{os.readlink(parent)}', and outputs follow no link"
                )

    def _name(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path relative to the work dir, without following links in it; None outside."""
        written = Path(os.path.abspath(path))
        in_place = written.parent.resolve() / written.name  # follows links in its folder; the last part may be a link
        for full, folder in ((written, self.path), (written, self.given), (in_place, self.path)):
            if full.is_relative_to(folder):
                return full.relative_to(folder).as_posix()
        return None

    def _save(self) -> None:
        self.check_place(self.path / MANIFEST)
        states = () if self.keep_states else self.states & self.files
        write_manifest(self.path, self.request, self.finished, self.files, states)


def check_folder(path: str | os.PathLike[str], replace: bool = False) -> Path:
    """Check what :func:`claim` refuses for any request, and return the folder; ``replace`` allows other files in it."""
    folder = resolved(path)
    if Path(os.path.abspath(Path(path).expanduser())).resolve() != folder or not str(path).strip():
        raise RequestError(f"--work-dir '{path}' is empty, or '..' follows a link in it; give the path of a folder")
    blocking = next((part for part in (folder, *folder.parents) if part.exists()), folder)
    if not blocking.is_dir():
        raise RequestError(f"--work-dir '{path}': '{blocking}' is a file; give the path of a folder, new or empty")
    if not (replace or process_rank() or folder in _CLAIMED or read_manifest(folder)):
        _refuse_foreign(folder, path, {}, "")
    return folder


def claim(
    path: str | os.PathLike[str],
    request: Mapping[str, Any],
    *,
    originals: Iterable[str | os.PathLike[str] | None] = (),
    inputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> WorkDir:
    """Claim a work dir until the end of its ``with`` block; a second claim by the same process returns the same object. The
    folder and its parents are created.

    ``request`` holds JSON values that are equal for runs of the same request (command, original, classes, data). The run reads
    the files and folders ``originals``, such as the original model, and must not change them, and other ``inputs``, such as data,
    a config or a key. ``overwrite`` accepts a folder with other files, or a finished run; only files of the names that this run
    writes are replaced. ``resume`` accepts a folder that a run of another request wrote; the resumed run compares the requests.

    Raise :class:`RequestError` if ``path`` is a file or cannot be resolved; contains an input or lies in an original's folder; is
    claimed by another run; holds links; or, without ``overwrite``, files of no earlier run of this request, or a finished run
    (with ``resume``: :class:`FinishedError`).
    """
    folder = check_folder(path, replace=True)
    models = [original for original in originals if original is not None]
    if folder in _CLAIMED:
        _CLAIMED[folder].marks = marks_of([*models, *inputs]) | _CLAIMED[folder].marks
        return _CLAIMED[folder]
    text = json.dumps(request, sort_keys=True, default=str).encode(errors="backslashreplace")
    digest, manifest = hashlib.sha256(text).hexdigest(), read_manifest(folder)
    if not overwrite and manifest.get("finished") and manifest["request"] == digest:
        _tidy(folder, manifest)
        when = datetime.fromisoformat(manifest["finished"]).strftime("%Y-%m-%d at %H:%M UTC")
        done = f"--work-dir '{path}' holds this request's run, finished on {when}"
        if resume:
            raise FinishedError(f"{done}; nothing is changed, and --overwrite does it again")
        raise RequestError(f"{done}; give another folder, or --overwrite to do it again and replace its record")
    if process_rank() != 0:
        return WorkDir(folder, {}, [], None)
    refuse_inputs(folder, inputs, models, "--work-dir")
    if resume and manifest and not manifest["finished"]:
        digest = manifest["request"]
    if not overwrite:
        _refuse_foreign(folder, path, manifest, digest)
    refuse_links(folder)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _lock(folder)
    except BaseException:
        _remove_empty(made)
        raise
    _delete_unfinished(folder)
    # Read again: a run that has just ended may have changed it.
    work_dir = WorkDir(folder, read_manifest(folder) | {"request": digest}, made, lock)
    work_dir.given = Path(os.path.abspath(Path(path).expanduser()))
    work_dir.marks = marks_of([*models, *inputs])
    _CLAIMED[folder] = work_dir
    return work_dir


def _refuse_foreign(folder: Path, path: Any, manifest: Mapping[str, Any], digest: str) -> None:
    """Raise :class:`RequestError` for a work dir with files of no run of the request that has this digest."""
    if not folder.is_dir() or manifest.get("request") == digest:
        return
    # Half-written files of a run that was killed at once may be replaced.
    items = (item.relative_to(folder) for item in folder.rglob("*") if not item.is_dir() and item.name != LOCK)
    first = next((item for item in items if not any(part.endswith(TEMPORARY) for part in item.parts)), None)
    if first is not None:
        content = "another run's files" if manifest else f"other files ('{first}')"
        raise RequestError(
            f"--work-dir '{path}' holds {content}; give a new folder, or --overwrite to replace files of this run's names"
        )


def _delete_unfinished(folder: Path) -> None:
    """Delete half-written files and temporary folders of a killed run."""
    for leftover in list(folder.rglob(f".*{TEMPORARY}")):
        delete_path(leftover)


def _tidy(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Delete the lock, the states and half-written files of a finished run that was killed before it did."""
    if process_rank() or not (manifest["states"] or (folder / LOCK).exists()):
        return
    with contextlib.suppress(RequestError, OSError), WorkDir(folder, manifest, [], _lock(folder)) as work_dir:
        work_dir.states |= set(manifest["states"])
        _delete_unfinished(folder)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def claimed(path: str | os.PathLike[str]) -> WorkDir | None:
    """Find the innermost work dir of this process that contains a path, or None."""
    work_dirs = [work_dir for work_dir in _CLAIMED.values() if work_dir._name(path) is not None]
    return max(work_dirs, key=lambda work_dir: len(work_dir.path.parts), default=None)


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


def _lock(folder: Path) -> FileLock:
    umask = os.umask(0o077)  # which can only be read by setting it
    os.umask(umask)
    lock = FileLock(folder / LOCK, mode=0o666 & ~umask)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RequestError(f"another run is using '{folder}'; wait for it, or give another --work-dir") from error
    return lock
