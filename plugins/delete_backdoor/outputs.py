"""Where a file is to be written, checked before the work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from delete_images.selection import parse_spec
from delete_tasks.errors import RequestError


def check_output(out: str | os.PathLike[str], suffix: str, what: str, inputs: Iterable[str]) -> Path:
    """The path of a file to write, if it can be one.

    Args:
        out: As the user gave it.
        suffix: That it must have, e.g. ``.npz``.
        what: For messages, e.g. 'a ranking is'.
        inputs: Data strings or paths that must not be overwritten, under whatever name or link.

    Raises:
        RequestError: Another suffix, a folder, below a file, or one of ``inputs``.
    """
    path = Path(out)
    if path.suffix != suffix:
        raise RequestError(f"{what} written as {suffix}, got '{out}'; give a name that ends in {suffix}")
    if path.is_dir():
        raise RequestError(f"'{out}' is a folder; give the name of a file in it, e.g. '{path / f'name{suffix}'}'")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RequestError(f"'{out}' lies below '{above}', which is a file; give another name")
    for given in inputs:
        source = Path(parse_spec(given).path or "").expanduser()
        same = source.resolve() == path.resolve()
        if same or (source.exists() and path.exists() and source.samefile(path)):
            raise RequestError(f"'{out}' is what is read ('{given}') and would be overwritten; give another name")
    return path
