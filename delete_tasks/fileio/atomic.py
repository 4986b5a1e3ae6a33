"""Files and folders that are written whole or not at all."""

import contextlib
import glob
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import RequestError, not_written
from .workdir import TEMPORARY, claimed, delete_path, holds_files


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], size: int = 0) -> Iterator[Path]:
    """Give a temporary path in the same folder, which replaces ``path`` once the block is left without an error. ``size`` is
    about how many bytes it will take, for the message of a full disk.

    The file follows the umask. A claimed work dir notes it as this run's.

    Raises:
        OutputError: It cannot be written; nothing is left of it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = claimed(path)
        if owner is not None:
            owner.own(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise not_written(path, error, size) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to write into, renamed to ``path`` once the block is left without an error, so that it is never half there.

    A folder that already holds files is written into as it is.

    Raises:
        OutputError: It cannot be made or renamed; nothing is left of it.
    """
    path = Path(path)
    if holds_files(path):
        yield path
        return
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Checked:
    """A file that remembers why a write failed: torch.save reports a full disk as an error of its own format."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def write_whole(path: str | os.PathLike[str], write: Callable[[Any], Any], size: int) -> None:
    """Call ``write`` with a binary file, and put that in the place of ``path``; ``size`` and errors as :func:`replacing`."""
    with replacing(path, size) as temporary, open(temporary, "xb") as file:
        checked = _Checked(file)
        try:
            write(checked)
        except RuntimeError:
            if checked.error is not None:
                raise checked.error from None
            raise
        file.flush()
        os.fsync(file.fileno())


def save_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write bytes whole or not at all."""
    write_whole(path, lambda file: file.write(data), len(data))


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write UTF-8 text whole or not at all; bytes of file names that are no UTF-8 (lone surrogates) are written escaped."""
    save_bytes(text.encode(errors="backslashreplace"), path)


def save_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON whole or not at all; a NaN is an error, since "not measured" is ``null``."""
    save_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def refuse_existing(
    out: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], overwrite: bool, suffix: str = ""
) -> Path:
    """Refuse to write a file or folder over an input, over an existing one, or below a file. With ``overwrite`` an existing one
    may be replaced, an input never.

    Half-written files of the same name, which a killed command left, are deleted. ``suffix`` is the file's, e.g. ``.npz``; empty
    for a folder, or a file of any name.

    Returns:
        The path of ``out``.

    Raises:
        RequestError: Any of these.
    """
    path = Path(out)
    if suffix and path.suffix != suffix:
        raise RequestError(f"the file is written as {suffix}, got '{out}'; give a name that ends in {suffix}")
    if suffix and path.is_dir():
        raise RequestError(f"'{out}' is a folder; give the name of a file in it, e.g. '{path / f'name{suffix}'}'")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RequestError(f"'{out}' lies below '{above}', which is a file; give another name")
    for given in (Path(os.path.expanduser(given)) for given in inputs):
        same = path.exists() and given.exists() and path.samefile(given)
        if same or given.resolve() == path.resolve():
            raise RequestError(
                f"'{out}' is what is read ('{given}') and would be overwritten; give another place for the result"
            )
    taken = holds_files(path) if path.is_dir() else os.path.lexists(path)
    if taken and not overwrite:
        raise RequestError(f"'{out}' is there already; give another path, or --overwrite to replace it")
    for left in path.parent.glob(f".{glob.escape(path.name[:200])}.????????{TEMPORARY}"):
        delete_path(left)
    return path
