"""Inputs of a command: regular files only, their digests, and the outputs that would take their place."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import RequestError

KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))
KERNEL = ("/proc", "/sys")  # regular files by their mode, but reading some of them waits, or never ends
LARGEST = 2**30  # bytes of a file whose content is compared; of a larger one the time of change is

StrPath = str | os.PathLike[str]

_DIGESTS: dict[Any, str] = {}  # by the version of a file on the disk


def kind_of(path: StrPath) -> str | None:
    """Describe a path that is neither a regular file nor a folder, e.g. 'a pipe'; None for those, and if nothing is there."""
    try:
        mode, real = os.stat(path).st_mode, Path(os.path.realpath(path))
    except (OSError, ValueError):
        return None
    kind = next((words for fits, words in KINDS if fits(mode)), None)
    return kind or next((f"in {folder}, the kernel's" for folder in KERNEL if real.is_relative_to(folder)), None)


def refuse_special(path: StrPath, source: str = "") -> None:
    """Raise :class:`RequestError` for a pipe, device or socket; ``source`` begins the message, e.g. ``--model``."""
    if (kind := kind_of(path)) is not None:
        raise RequestError(
            f"{source} '{path}' is {kind}; only regular files are read, since a run reads them more than once: save it as a "
            "file, and give that".lstrip()
        )


def open_regular(path: StrPath) -> BinaryIO:
    """Open a regular file for reading; raise as :func:`refuse_special`, or the OSError of a missing file."""
    refuse_special(path)
    # A pipe that took the file's place since then is opened without waiting, and is empty.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def read_bytes(path: StrPath) -> bytes:
    """Read a regular file; raise as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: StrPath, errors: str = "strict") -> str:
    """Read a regular file of UTF-8 text; raise as :func:`open_regular`."""
    return read_bytes(path).decode("utf-8", errors)


def version_of(path: StrPath) -> Any:
    """Identify a file and its time of change; return a new object if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return object()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def note_digest(version: Any, data: bytes) -> None:
    """Note the digest of a file's bytes for :func:`file_sha256`."""
    _DIGESTS[version] = hashlib.sha256(data).hexdigest()


def file_sha256(path: StrPath) -> str:
    """Compute the SHA-256 of a file's bytes, as hex; a file that has not changed since is read once."""
    version = version_of(path)
    if version not in _DIGESTS:
        digest = hashlib.sha256()
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _DIGESTS[version] = digest.hexdigest()
    return _DIGESTS[version]


def marks_of(paths: Iterable[StrPath]) -> dict[Path, Any]:
    """Identify the content of files, and of the files in folders, e.g. a model's; missing files have no mark."""
    marks: dict[Path, Any] = {}
    for path in map(Path, paths):
        for file in path.iterdir() if path.is_dir() else [path]:
            if file.is_file() and kind_of(file) is None:
                marks[file.resolve()] = version_of(file)[1:4] if file.stat().st_size > LARGEST else file_sha256(file)
    return marks


def refuse_inputs(out: StrPath, files: Iterable[StrPath], models: Iterable[StrPath], source: str = "") -> None:
    """Refuse an output (of the option ``source``) that is an input, a folder with one in it, or in a model's folder."""
    place, folders = resolved(out), [resolved(model) for model in models]
    for path in [*map(resolved, files), *folders]:
        if path == place or (path.exists() and place.exists() and path.samefile(place)):
            raise RequestError(f"{source} '{out}' would overwrite '{path}', which is read; give another path".lstrip())
        if path.is_relative_to(place) and path.exists():
            raise RequestError(
                f"{source} '{out}' is a folder that holds '{path}', which is read, and files in it are replaced; give another "
                "folder".lstrip()
            )
    for folder in folders:
        if place.is_relative_to(folder) and folder.is_dir():
            raise RequestError(f"{source} '{out}' is in '{folder}', which is read; give a path outside of it".lstrip())


def resolved(path: StrPath) -> Path:
    """Make a path absolute and follow its links; raise :class:`RequestError` if that fails."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, an unknown user, a null character
        raise RequestError(f"'{path}' cannot be resolved ({error}); give another path") from error
