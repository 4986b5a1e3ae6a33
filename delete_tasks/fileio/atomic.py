"""Atomic writes: files and folders that are written whole or not at all."""

import contextlib
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import OutputError, RequestError, not_written
from .inputs import kind_of, refuse_inputs
from .workdir import TEMPORARY, claimed, delete_path, holds_files


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], size: int = 0) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces ``path`` if the block ends without an error. ``size`` is the
    approximate number of bytes, for the message of a full disk. The file follows the umask, and a claimed work dir notes it. No
    link is followed: one at ``path`` is replaced, one on the way to it from a claimed work dir is refused, also if it appears
    inside the block. Raise :class:`OutputError` if it cannot be written; the temporary file is deleted."""
    path = Path(path)
    temporary, work_dir = _temporary(path), claimed(path)
    try:
        if not path.is_symlink() and (kind := kind_of(path)) is not None:  # which a file would replace
            raise OutputError(f"cannot write '{path}': {kind} is there; give another path")
        if work_dir is not None:
            work_dir.check_place(path)
            work_dir.own(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if work_dir is not None:
            work_dir.check_place(path)
        os.replace(temporary, path)
    except OutputError:
        raise
    except OSError as error:
        raise not_written(path, error, size) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder, renamed to ``path`` at the end, or ``path`` if that holds files. Raises as :func:`replacing`."""
    path = Path(path)
    if path.is_symlink():
        raise OutputError(f"cannot write '{path}': it is a link to '{os.readlink(path)}', and outputs follow no link")
    if holds_files(path):
        yield path
        return
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OutputError:
        raise
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a file, or a link itself, if there is one; raise :class:`OutputError` as :func:`replacing`."""
    if (work_dir := claimed(path)) is not None:
        work_dir.check_place(path)
    path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{TEMPORARY}")


def save_bytes(data: bytes | memoryview, path: str | os.PathLike[str], mode: int = 0o666) -> None:
    """Write bytes whole or not at all, to a file with a ``mode`` that the umask restricts; raises as :func:`replacing`."""
    with (
        replacing(path, len(data)) as temporary,
        open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file,
    ):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write UTF-8 text whole or not at all; lone surrogates, of file names that are not UTF-8, are written escaped."""
    save_bytes(text.encode(errors="backslashreplace"), path)


def save_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON whole or not at all; a NaN is an error, since "not measured" is ``null``."""
    save_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def refuse_existing(
    out: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], overwrite: bool, suffix: str = ""
) -> Path:
    """Check the path of an output, delete half-written files of its name, which a killed command left, and return the path.
    ``suffix`` is the required one, e.g. ``.npz``; empty for a folder, or a file of any name. Raise :class:`RequestError` if
    ``out`` is an input, exists without ``overwrite``, lies below a file or has another suffix."""
    path = Path(out)
    if suffix and path.suffix != suffix:
        raise RequestError(f"the file is written as {suffix}, got '{out}'; give a name that ends in {suffix}")
    if suffix and path.is_dir():
        raise RequestError(f"'{out}' is a folder; give the name of a file in it, e.g. '{path / f'name{suffix}'}'")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RequestError(f"'{out}' lies below '{above}', which is a file; give another name")
    refuse_inputs(out, inputs, [])
    if path.is_symlink() and path.is_dir():
        raise RequestError(f"'{out}' is a link to '{os.readlink(path)}', and outputs follow no link; give that folder")
    exists = holds_files(path) if path.is_dir() else os.path.lexists(path)
    if exists and not overwrite:
        raise RequestError(f"'{out}' already exists; give another path, or --overwrite to replace it")
    for leftover in path.parent.glob(f".{glob.escape(path.name[:200])}.????????{TEMPORARY}"):
        delete_path(leftover)
    return path
