"""Files and folders that a command writes where the user says, outside of a work dir."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import RequestError
from .workdir import TEMPORARY, delete_path, holds_files


def refuse_existing(
    out: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], overwrite: bool, suffix: str = ""
) -> Path:
    """Refuse to write a file or folder over an input, over anything that is there already, or where none can be. With
    ``overwrite`` what is there may be replaced; an input never.

    Half-written files of the same name, which a killed command left, are deleted. ``suffix`` is a file's, e.g. ``.npz``; empty
    where a folder, or a file of any name, is written.

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
