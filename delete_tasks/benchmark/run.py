"""``delete-tasks benchmark``, once its options are read: cells, tables, figures."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..display.terminal import make_console
from ..errors import RequestError
from ..fileio.atomic import save_text
from ..fileio.compute import flush_subnormals
from ..plugins import plugin_modules
from ..task import load_task
from .cells import claim_root, failures, results, run_cells
from .figures import draw_all
from .grid import Cell, Grid, read_grid
from .source import GRIDS, GridSource
from .table import lines, to_csv, to_latex, to_markdown

FILES = {"cells.csv": lambda found: to_csv(found), "table.md": lambda found: to_markdown(lines(found)),
         "table.tex": lambda found: to_latex(lines(found))}  # fmt: skip


def open_grid(grid: Grid, root: Path) -> GridSource:
    """Open the grid's networks and data by its task.

    Raises:
        RequestError: It offers no benchmark, or the grid asks for what is not there.
    """
    load_task(grid.task)
    module = f"{plugin_modules().get(grid.task)}.benchmark"
    if grid.task not in GRIDS and importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
    if grid.task not in GRIDS:
        raise RequestError(f"the task '{grid.task}' offers no benchmark")
    return GRIDS[grid.task](grid, root)


def run(args: SimpleNamespace, changes: Mapping[str, Any]) -> int:
    """Run the cells that are not done, then write the tables and the figures of all that are.

    Returns:
        0, or 1 where a cell failed.
    """
    flush_subnormals()
    if args.tables_only and args.cells_only:
        raise RequestError("--tables-only runs no cell and --cells-only writes no table; give one of them")
    console, root = make_console(), Path(args.work_dir)
    grid = read_grid(args.grid, changes)
    source = open_grid(grid, root)
    source.check()
    cells = list(grid.cells(source.has_retrained))
    claim_root(root, {**grid.json(), "originals": dict(source.originals())})
    try:
        if args.processes > 1 and not args.tables_only:
            _run_processes(args)
        elif not args.tables_only:
            run_cells(source, cells, root, console, args.keep_models)
    except KeyboardInterrupt as error:
        done = len(results(root, cells))
        raise KeyboardInterrupt(
            f"{done} of {len(cells)} cells are done in {root}; the same command goes on with the rest."
        ) from error
    if args.cells_only:
        return 1 if failures(root, cells) else 0
    return finish(cells, root, console)


def finish(cells: Sequence[Cell], root: Path, console: Any) -> int:
    """Tables, figures, and what is missing."""
    found = results(root, cells)
    if found:
        for name, write in FILES.items():
            save_text(write(found), root / name)
        drawn, reasons = draw_all(lines(found), cells, root)
        console.print(f"Written: {', '.join(str(root / name) for name in (*FILES, *drawn))}", soft_wrap=True)
        for name, reason in reasons.items():
            console.print(f"Not drawn: {name}, because {reason}.", soft_wrap=True)
    failed = failures(root, cells)
    rest = len(cells) - len(found) - len(failed)
    if rest:
        console.print(f"{rest} of {len(cells)} cells are not done; the same command goes on with them.")
    for cell, reason in failed:
        console.print(f"FAILED: {cell.title} ({root / cell.folder}): {reason}", soft_wrap=True)
    return 1 if failed else 0


def _run_processes(args: SimpleNamespace) -> None:
    """Run the same command in several processes, each on its own GPU if there are several; they share the cells."""
    gpus = torch.cuda.device_count()
    words = [sys.executable, "-m", "delete_tasks", "benchmark", args.grid, "--work-dir", args.work_dir, "--cells-only"]
    words += ["--keep-models"] if args.keep_models else []
    words += ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    words += ["--device", args.device] if args.device else []
    started = []
    for number in range(args.processes):
        environment = dict(os.environ)
        # Threads that wait for a core that another process has cost more than they bring.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.processes)))
        if gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        started.append(subprocess.Popen(words, env=environment))
    try:
        for process in started:
            process.wait()
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
