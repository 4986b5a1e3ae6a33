"""Digests of models, of sections of a record and of the files beside it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .atomic import save_text
from .inputs import file_sha256, read_text
from .workdir import TEMPORARY

SUMS = "record.sha256"
WEIGHTS = (".safetensors", ".pth", ".pt")
MOST_FILES = 1000  # in the folder of a model


def canonical(value: Any) -> bytes:
    """Encode a value as UTF-8 JSON with sorted keys and no spaces; raise ValueError for nan and infinity."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")  # file names may not be UTF-8


def section_digests(record: Mapping[str, Any]) -> dict[str, str]:
    """Compute the SHA-256 of each section of a record, except the section of these digests."""
    sections = {name: value for name, value in record.items() if name != "section_sha256"}
    return {name: hashlib.sha256(canonical(value)).hexdigest() for name, value in sections.items()}


def describe_model(path: str | os.PathLike[str], base: Path) -> dict[str, Any]:
    """Compute the digests of a model's files and tensors. ``path`` is a checkpoint or its folder; paths inside ``base`` are
    written relative to it. Raise :class:`FileNotFoundError` without such a file or folder, :class:`RequestError` if the folder
    holds no weights file, several, or too many files for a model, :class:`UnsafeCheckpointError` if loading would run code."""
    from .checkpoint import load_once, state_dict_of, tensors_sha256

    path = Path(path)
    if not path.is_file() and not path.is_dir():  # reading a device would not end
        raise FileNotFoundError(f"no model at '{path}'")
    files = [path]
    if path.is_dir():
        items = (item for item in path.rglob("*") if item.is_file() and not is_temporary(item))
        files = sorted(islice(items, MOST_FILES + 1))
        if len(files) > MOST_FILES:
            raise RequestError(f"'{path}' holds more than {MOST_FILES} files; expected a model's folder")
    weights = [item for item in files if item.suffix in WEIGHTS] if path.is_dir() else files
    if len(weights) != 1:
        raise RequestError(f"'{path}' holds {len(weights)} weights files ({', '.join(WEIGHTS)}); expected one")
    return {
        "path": relative(path, base),
        "files": [{"path": relative(i, base), "bytes": i.stat().st_size, "sha256": file_sha256(i)} for i in files],
        "tensors_sha256": tensors_sha256(state_dict_of(load_once(weights[0]), f"'{weights[0]}'")),
    }


def is_temporary(path: Path) -> bool:
    """Return True for an unfinished file of this package, which the next run in the same folder deletes."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def relative(path: str | os.PathLike[str], base: Path) -> str:
    """Make a path relative to ``base`` if it is inside, else absolute."""
    full, folder = Path(path).resolve(), base.resolve()
    return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else str(full)


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write the digests of files in ``folder``, in the format of ``sha256sum -c``."""
    save_text("".join(f"{file_sha256(folder / name)}  {name}\n" for name in names), folder / SUMS)


def read_sums(folder: Path) -> dict[str, str]:
    """Read :func:`write_sums`'s digests by file name; raise RequestError for a file that is missing, incomplete or malformed."""
    path = folder / SUMS
    if not path.is_file():
        raise RequestError(f"no {SUMS} in '{folder}'; it belongs to the record: copy the whole folder")
    *lines, rest = read_text(path, "backslashreplace").split("\n")
    if rest or not lines:
        raise RequestError("its last line is incomplete" if rest else "it is empty")
    sums: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch("([0-9a-f]{64})  ([^/]+)", line)
        if match is None:
            raise RequestError(f"cannot read the line {line!r}; expected a SHA-256, two spaces and a file name")
        if match[2] in sums:
            raise RequestError(f"it lists {match[2]} twice")
        sums[match[2]] = match[1]
    return sums
