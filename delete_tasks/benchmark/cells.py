"""Cells of a grid, run one after another, each in its folder; finished ones are checked and skipped, failures recorded."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from msgspec import Meta, Struct

from ..display.terminal import printable, say
from ..errors import RequestError, first_line
from ..fileio.atomic import save_json
from ..fileio.digests import canonical
from ..fileio.environment import code_version
from ..fileio.manifest import refuse_links
from ..fileio.processes import raise_lost
from ..fileio.validate import as_type, read_json
from ..fileio.workdir import holds_files
from .grid import REFERENCES, RETRAINED, Cell, GridSource
from .measure import COLUMNS, COMPARED, measure

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
    by_class: list[Figure | None]
    not_measured: dict[str, str]
    made_of: dict[str, str | None]
    code: dict[str, Any]
    sha256: str


def digest(content: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of the content of a cell.json, without this digest."""
    return hashlib.sha256(canonical({key: value for key, value in content.items() if key != "sha256"})).hexdigest()


def read_cell(root: Path, cell: Cell) -> dict[str, Any] | None:
    """Read a cell's figures, None if it is not done; refuse a file that is not JSON, incomplete, of another cell or changed."""
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
    missing = {column.name for column in COLUMNS} - set(COMPARED) - set(saved.figures)
    if missing:
        raise RequestError(f"'{path}' lacks the figures {', '.join(sorted(missing))}; {AGAIN}")
    if (saved.network, saved.group, saved.method, saved.seed) != (cell.network, cell.group, cell.method, cell.seed):
        name = f"{saved.network}, {saved.group}, {saved.method}, seed {saved.seed}"
        raise RequestError(f"'{path}' is of another cell, {name!r}, and not of '{cell.title}'; {AGAIN}")
    if saved.sha256 != digest(content):
        other = "its content has another SHA-256 than the run wrote"
        raise RequestError(f"'{path}' was changed after its run: {other}; {AGAIN}")
    return content


def check_cells(root: Path, cells: Sequence[Cell], made_of: Callable[[Cell], Mapping[str, str | None]]) -> None:
    """Check the finished cells of a grid, and print how many are of other code. Raise as :func:`read_cell`, or if a cell was made
    of other data, settings or models than :meth:`delete_tasks.benchmark.grid.GridSource.made_of` gives now."""
    others, version = 0, code_version()
    for cell in cells:
        content = read_cell(root, cell)
        if content is None:
            continue
        before = content["made_of"]
        for name, now in made_of(cell).items():
            if now is not None and before.get(name) not in (None, now):
                made = f"was made of other {name} (SHA-256 {before[name]}) than now ({now}); one table would hold both"
                advice = "restore the former, give another --work-dir, or delete the folders of all such cells to run them again"
                raise RequestError(f"the cell '{cell.title}' in '{root / cell.folder}' {made}; {advice}")
        others += content["code"] != version
    if others:
        say(f"{others} of {len(cells)} cells were run by another version of the code.")


FAILED, BEGUN, LOCK = "failed.json", "begun.json", ".lock"


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None if it is missing or holds no object."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def results(root: Path, cells: Sequence[Cell]) -> list[tuple[Cell, dict[str, Any]]]:
    """Return the cells that are done, with the content of their file."""
    contents = [(cell, read_cell(root, cell)) for cell in cells]
    return [(cell, content) for cell, content in contents if content is not None]


def failures(root: Path, cells: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Return the cells whose last attempt failed, with the reasons."""
    contents = [(cell, read_object(root / cell.folder / FAILED)) for cell in cells]
    return [(cell, printable(str(content.get("error")))) for cell, content in contents if content is not None]


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Claim a cell's folder; yield False if another process holds it. A killed process loses its claim."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        claim = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        yield False
        return
    with claim:
        yield True


def run_cell(source: GridSource, cell: Cell, root: Path, keep_models: bool = False) -> dict[str, Any]:
    """Unlearn, measure and save one cell; delete the run's files unless models are kept."""
    folder, made_of = root / cell.folder, dict(source.made_of(cell))
    if read_object(folder / BEGUN) != made_of:  # a killed run continues from its last state, but not with other data
        shutil.rmtree(folder / "run", ignore_errors=True)
        save_json(made_of, folder / BEGUN)
    cost: Mapping[str, float | None] = dict.fromkeys(("seconds", "samples", "steps"))
    row = cell.method
    if row in REFERENCES:
        opened = source.retrained(cell) if row == RETRAINED else source.original(cell)
    else:
        row = "erased"
        opened, cost = source.erase(cell, folder / "run")
    values, reasons, by_class = measure(opened, row, folder)
    made_now = source.made_of(cell)
    changed = [name for name, before in made_of.items() if before not in (None, made_now[name])]
    if changed:
        raise RequestError(f"{changed[0]}: replaced during the run; run the command again")
    content: dict[str, Any] = {
        **{name: getattr(cell, name) for name in ("network", "group", "method", "retain", "seed")},
        "classes": len(cell.classes),
        "ids": list(opened.ids),
        "figures": {**values, **cost},
        "by_class": by_class,
        "not_measured": reasons,
        "made_of": made_now,
        "code": code_version(),
    }
    save_json({**content, "sha256": digest(content)}, folder / DONE)
    for name in (FAILED, BEGUN):
        (folder / name).unlink(missing_ok=True)
    if not keep_models:
        shutil.rmtree(folder / "run", ignore_errors=True)
    return content


def run_cells(source: GridSource, cells: Sequence[Cell], root: Path, keep_models: bool = False) -> None:
    """Run every cell that is not done or claimed by another process; record a failure and continue with the next cell."""
    spent: dict[str, list[float]] = {}
    waiting = [cell for cell in cells if read_cell(root, cell) is None]
    if len(waiting) < len(cells):
        say(f"{len(cells) - len(waiting)} of {len(cells)} cells are done already.")
    for number, cell in enumerate(waiting):
        folder = root / cell.folder
        with claimed(folder) as mine:
            if not mine or read_cell(root, cell) is not None:
                continue
            start = time.monotonic()
            try:
                content: Mapping[str, Any] = run_cell(source, cell, root, keep_models)
            except Exception as error:
                raise_lost(error)
                reason = printable(f"{type(error).__name__}: {first_line(error)}")
                save_json({"error": reason}, folder / FAILED)
                outcome = f"FAILED: {reason}"
            else:
                figures = ((name, content["figures"][name]) for name in ("acc_ft", "acc_rt", "linear_probe"))
                outcome = ", ".join(f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in figures)
        spent.setdefault(cell.method, []).append(time.monotonic() - start)
        left = time_left(spent, waiting[number + 1 :], share=sum(map(len, spent.values())) / (number + 1))
        place = f"{len(cells) - len(waiting) + number + 1}/{len(cells)}"
        wait = "" if left is None else f"; about {left / 60:.1f} min left"
        say(f"[{place}] {cell.title}: {outcome} ({spent[cell.method][-1]:.0f} s{wait})")


def time_left(spent: Mapping[str, Sequence[float]], rest: Sequence[Cell], share: float) -> float | None:
    """Estimate the seconds of the remaining cells, of which this process will run a ``share``, from the seconds ``spent`` on
    cells of the same method, or of all methods; None before the first cell of a method, since references are much faster."""
    means = {method: sum(seconds) / len(seconds) for method, seconds in spent.items()}
    erased = [mean for method, mean in means.items() if method not in REFERENCES]
    if rest and not erased:
        return None
    return share * sum(means.get(cell.method, sum(erased) / len(erased)) for cell in rest)


def claim_root(root: Path, request: Mapping[str, Any], check: Callable[[], object] = lambda: None) -> None:
    """Claim a work dir for a grid: a new or empty folder, or one of the same grid. Methods, classes, networks and seeds may be
    added, but none may be changed under its name. ``check`` is called before anything is written. Raise :class:`RequestError` if
    the folder holds links, other files, or another grid's cells."""
    for folder in (root, *(item for item in root.rglob("*") if item.is_dir())):
        refuse_links(folder)
    marker = root / "grid.json"
    saved, plain = read_object(marker), json.loads(json.dumps(request))
    if saved is None and holds_files(root):
        raise RequestError(f"--work-dir '{root}' holds other files; give a new or empty folder")
    for key in () if saved is None else ("task", "data", "networks", "originals", "groups", "methods"):
        before, now = saved.get(key), plain[key]  # type: ignore[union-attr]
        if key in ("task", "data") or not isinstance(before, dict):
            changed = [key] if before != now else []
        else:
            changed = [f"{key}['{name}']" for name in now if name in before and before[name] != now[name]]
        if changed:
            other = f"holds the cells of another grid, which differs in {', '.join(changed)}"
            raise RequestError(f"--work-dir '{root}' {other}; give another folder, or another name in the grid")
    check()
    root.mkdir(parents=True, exist_ok=True)
    save_json(plain, marker)
