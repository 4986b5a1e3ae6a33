"""Running cells: one after another, each in a folder of its own; what is done is skipped, what fails is noted."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from ..errors import RequestError, first_line
from ..fileio.atomic import save_json
from ..fileio.processes import raise_lost
from ..request.classes import resolve_classes
from .grid import CUT, ORIGINAL, REFERENCES, RETRAINED, Cell
from .measure import measure
from .source import GridSource

DONE, FAILED, LOCK = "cell.json", "failed.json", ".lock"


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None if there is none, or none that is whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def results(root: Path, cells: Sequence[Cell]) -> list[tuple[Cell, dict[str, Any]]]:
    """Cells that are done, with what they hold."""
    found = [(cell, read_json(root / cell.folder / DONE)) for cell in cells]
    return [(cell, content) for cell, content in found if content is not None]


def failures(root: Path, cells: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Cells that failed when they were last tried, with the reason."""
    found = [(cell, read_json(root / cell.folder / FAILED)) for cell in cells]
    return [(cell, str(content.get("error"))) for cell, content in found if content is not None]


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Claim a cell's folder; False if another process has it. A killed process's claim ends with it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def run_cell(source: GridSource, cell: Cell, root: Path, keep_models: bool = False) -> dict[str, Any]:
    """Make, measure and note one cell; what the run left goes unless models are kept."""
    folder, names = root / cell.folder, source.names(cell.network)
    ids = resolve_classes(list(cell.classes), list(names))
    cost: dict[str, Any] = {"seconds": None, "samples": None, "steps": None}
    row = {ORIGINAL: "original", CUT: "logit_cut", RETRAINED: "retrained"}.get(cell.method, "erased")
    if row == "erased":
        erased = source.erase(cell, folder / "run")
        opened = erased.opened
        cost = {"seconds": round(erased.seconds, 1), "samples": erased.samples, "steps": erased.steps}
    else:
        opened = source.retrained(cell) if row == "retrained" else source.original(cell)
    values, reasons = measure(opened, row, folder)
    content = {
        "network": cell.network,
        "group": cell.group,
        "classes": len(cell.classes),
        "ids": ids,
        "method": cell.method,
        "retain": cell.retain,
        "seed": cell.seed,
        "figures": {**values, **cost},
        "not_measured": reasons,
    }
    save_json(content, folder / DONE)
    (folder / FAILED).unlink(missing_ok=True)
    if not keep_models:
        shutil.rmtree(folder / "run", ignore_errors=True)
    return content


def run_cells(
    source: GridSource, cells: Sequence[Cell], root: Path, console: Console, keep_models: bool = False
) -> None:
    """Run every cell that is not done and that no other process works on. One that raises is noted, and the next follows."""
    spent: dict[str, list[float]] = {}
    waiting = [cell for cell in cells if read_json(root / cell.folder / DONE) is None]
    if len(waiting) < len(cells):
        console.print(f"{len(cells) - len(waiting)} of {len(cells)} cells are done already.")
    for number, cell in enumerate(waiting):
        folder = root / cell.folder
        with claimed(folder) as mine:
            if not mine or read_json(folder / DONE) is not None:
                continue
            start = time.monotonic()
            try:
                content: Mapping[str, Any] = run_cell(source, cell, root, keep_models)
            except Exception as error:
                raise_lost(error)
                reason = f"{type(error).__name__}: {first_line(error)}"
                save_json({"error": reason}, folder / FAILED)
                told = f"FAILED: {reason}"
            else:
                figures = content["figures"]
                told = ", ".join(f"{name} {_told(figures[name])}" for name in ("acc_ft", "acc_rt", "linear_probe"))
        spent.setdefault(cell.method, []).append(time.monotonic() - start)
        left = time_left(spent, waiting[number + 1 :], share=sum(map(len, spent.values())) / (number + 1))
        console.print(
            f"[{len(cells) - len(waiting) + number + 1}/{len(cells)}] {cell.title}: {told} ({spent[cell.method][-1]:.0f} s"
            f"{'' if left is None else f'; about {_minutes(left)} left'})"
        )


def time_left(spent: Mapping[str, Sequence[float]], rest: Sequence[Cell], share: float) -> float | None:
    """Seconds that the rest takes, by what cells of the same method took, or of the other methods where there was none yet.

    Args:
        spent: Seconds of the cells that this process ran, by method.
        rest: Cells that wait.
        share: How many of them this process will run; the others' are other processes'.

    Returns:
        None before the first cell of a method: originals take a fraction of that.
    """
    means = {method: sum(seconds) / len(seconds) for method, seconds in spent.items()}
    erased = [mean for method, mean in means.items() if method not in REFERENCES]
    if rest and not erased:
        return None
    return share * sum(means.get(cell.method, sum(erased) / len(erased)) for cell in rest)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def claim_root(root: Path, request: Mapping[str, Any]) -> None:
    """Take a work dir for a grid: a new or empty folder, or one that the same grid began. More methods, classes, networks
    and seeds are the same grid; others under the same names are not.

    Raises:
        RequestError: It holds other files, or another grid's cells.
    """
    marker = root / "grid.json"
    known = read_json(marker)
    if known is None and root.exists() and any(root.iterdir()):
        raise RequestError(f"--work-dir '{root}' holds other files; give a new or empty folder")
    plain = json.loads(json.dumps(request))
    for key in () if known is None else ("task", "data", "networks", "originals", "groups", "methods"):
        then, now = known.get(key), plain[key]  # type: ignore[union-attr]
        if key in ("task", "data") or not isinstance(then, dict):
            changed = [key] if then != now else []
        else:
            changed = [f"{key}['{name}']" for name in now if name in then and then[name] != now[name]]
        if changed:
            raise RequestError(
                f"--work-dir '{root}' holds the cells of another grid, which differs in {', '.join(changed)}; give another "
                "folder, or another name in the grid"
            )
    root.mkdir(parents=True, exist_ok=True)
    save_json(plain, marker)
