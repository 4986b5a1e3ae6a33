"""Finished cells: the content of cell.json, checked against the digests that the cell's own run wrote."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from rich.console import Console

from ..errors import RequestError
from ..fileio.digests import canonical
from ..fileio.environment import code_version
from ..fileio.validate import as_type, read_json
from .grid import Cell
from .measure import COLUMNS

DONE = "cell.json"
AGAIN = "delete its folder to run the cell again"
Figure = Annotated[float, Meta(ge=-1e12, le=1e12)]


class _Finished(Struct):
    network: str
    group: str
    classes: int
    ids: list[int]
    method: str
    retain: bool
    seed: int
    figures: dict[str, Figure | None]
    not_measured: dict[str, str]
    made_of: dict[str, str | None] = {}
    code: dict[str, Any] = {}
    sha256: str | None = None


def digest(content: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of the content of a cell.json, without this digest."""
    return hashlib.sha256(canonical({key: value for key, value in content.items() if key != "sha256"})).hexdigest()


def read_cell(root: Path, cell: Cell) -> dict[str, Any] | None:
    """Read a cell's figures; None if it is not done. Raise :class:`RequestError` if the file is no JSON, has other content, is of
    another cell, or was changed after the run that wrote it."""
    path = root / cell.folder / DONE
    if not path.is_file():
        if path.exists():
            raise RequestError(f"'{path}' is no file; {AGAIN}")
        return None
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"'{path}' cannot be read ({error}); {AGAIN}") from error
    saved: _Finished = as_type(content, _Finished, f"'{path}' ({AGAIN})")
    missing = {column.name for column in COLUMNS} - {"h_mean"} - set(saved.figures)
    if missing:
        raise RequestError(f"'{path}' lacks the figures {', '.join(sorted(missing))}; {AGAIN}")
    if (saved.network, saved.group, saved.method, saved.seed) != (cell.network, cell.group, cell.method, cell.seed):
        name = f"{saved.network}, {saved.group}, {saved.method}, seed {saved.seed}"
        raise RequestError(f"'{path}' is of another cell, {name!r}, and not of '{cell.title}'; {AGAIN}")
    if saved.sha256 is not None and saved.sha256 != digest(content):
        raise RequestError(
            f"'{path}' was changed after its run: its content has another SHA-256 than the run wrote; {AGAIN}"
        )
    return content


def check_cells(
    root: Path, cells: Sequence[Cell], made_of: Callable[[Cell], Mapping[str, str | None]], console: Console
) -> None:
    """Check the finished cells of a grid, and print how many have no digests, or are of other code. ``made_of`` is
    :meth:`delete_tasks.benchmark.grid.GridSource.made_of`. Raise as :func:`read_cell`, or if a cell was made of other data,
    settings or models."""
    remarks: Counter[str] = Counter()
    version = code_version()
    for cell in cells:
        content = read_cell(root, cell)
        if content is None:
            continue
        before = content.get("made_of") or {}
        for name, now in made_of(cell).items():
            if now is not None and before.get(name) not in (None, now):
                raise RequestError(
                    f"the cell '{cell.title}' in '{root / cell.folder}' was made of other {name} (SHA-256 {before[name]}) than "
                    f"now ({now}), and one table would hold both; restore the former, give another --work-dir, or delete the "
                    "folders of all such cells to run them again"
                )
        if content.get("sha256") is None:
            remarks["made by an earlier version without digests, and not checked"] += 1
        elif content.get("code") != version:
            remarks["run by another version of the code"] += 1
    for remark, count in remarks.items():
        console.print(f"{count} of {len(cells)} cells were {remark}.")
