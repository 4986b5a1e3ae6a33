"""Files and folders that a command writes where the user says, outside of a work dir."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import RequestError
from .workdir import TEMPORARY, delete_path, holds_files


def refuse_existing(out: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], overwrite: bool) -> None:
    """Refuse to write a file or folder over an input, or over anything that is there already. With ``overwrite`` what is there
    may be replaced; an input never.

    Half-written files of the same name, which a killed command left, are deleted.

    Raises:
        RequestError: Either.
    """
    path = Path(out)
    for given in map(Path, inputs):
        if path.exists() and given.exists() and path.samefile(given):
            raise RequestError(f"'{out}' is what is read; give another place for the result")
    taken = holds_files(path) if path.is_dir() else os.path.lexists(path)
    if taken and not overwrite:
        raise RequestError(f"'{out}' is there already; give another path, or --overwrite to replace it")
    for left in path.parent.glob(f".{glob.escape(path.name[:200])}.????????{TEMPORARY}"):
        delete_path(left)
