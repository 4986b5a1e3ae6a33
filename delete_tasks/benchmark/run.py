"""Run of ``delete-tasks benchmark``: cells, tables, figures."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch

from ..display.terminal import say
from ..errors import RequestError
from ..fileio.atomic import save_text
from ..fileio.compute import flush_subnormals
from ..fileio.inputs import refuse_inputs
from ..fileio.processes import Interrupted, signal_of
from ..plugins import plugin_modules
from ..request.config import parse_options
from ..task import load_task
from .cells import check_cells, claim_root, failures, results, run_cells
from .figures import draw_all
from .grid import Cell, Grid, GridSource, read_grid
from .table import chosen_columns, lines, to_csv, to_latex, to_markdown


def open_grid(grid: Grid, root: Path) -> GridSource:
    """Open the grid's networks and data by its task; raise :class:`RequestError` if the task offers no benchmark."""
    load_task(grid.task)
    name = f"{plugin_modules().get(grid.task)}.benchmark"
    module = importlib.import_module(name) if importlib.util.find_spec(name) is not None else None
    source: Callable[[Grid, Path], GridSource] | None = getattr(module, "SOURCE", None)
    if source is None:
        raise RequestError(f"the task '{grid.task}' offers no benchmark")
    return source(grid, root)


def run(args: SimpleNamespace) -> int:
    """Run the cells that are not done, then write tables and figures of all finished cells; return 1 if a cell failed, else 0."""
    flush_subnormals()
    if args.tables_only and args.cells_only:
        raise RequestError("--tables-only runs no cell and --cells-only writes no table; give one of them")
    root, grid = Path(args.work_dir), read_grid(args.grid, parse_options(args.cfg_options))
    chosen_columns(grid.columns)
    source = open_grid(grid, root)
    source.check()
    cells = list(grid.cells(source.has_retrained))
    request = {**grid.json(), "originals": dict(source.originals())}
    refuse_inputs(root, [], source.inputs(), "--work-dir")
    claim_root(root, request, lambda: check_cells(root, cells, source.made_of))
    try:
        if args.processes > 1 and not args.tables_only:
            _run_processes(args)
        elif not args.tables_only:
            run_cells(source, cells, root, args.keep_models)
    except KeyboardInterrupt as error:
        done = len(results(root, cells))
        message = f"{done} of {len(cells)} cells are done in {root}; the same command continues with the rest."
        raise Interrupted(message, signal_of(error)) from error
    if args.cells_only:
        return 1 if failures(root, cells) else 0
    return finish(cells, root, grid.columns)


def finish(cells: Sequence[Cell], root: Path, columns: Sequence[str] = ()) -> int:
    """Write tables and figures, and print the cells that failed or are not done; return 1 if a cell failed, else 0."""
    done, failed = results(root, cells), failures(root, cells)
    if done:
        rows, shown = lines(done), chosen_columns(columns)
        merged = lines(done, merge=True) if len({cell.network for cell, _ in done}) > 1 else []
        texts = {"cells.csv": to_csv(done)}
        texts |= {"table.md": to_markdown([*merged, *rows], shown), "table.tex": to_latex([*merged, *rows], shown)}
        for name, text in texts.items():
            save_text(text, root / name)
        drawn, reasons = draw_all(rows, root)
        say(f"Written: {', '.join(str(root / name) for name in (*texts, *drawn))}")
        for name, reason in reasons.items():
            say(f"Not drawn: {name}, because {reason}.")
    rest = len(cells) - len(done) - len(failed)
    if rest:
        say(f"{rest} of {len(cells)} cells are not done; the same command continues with them.")
    for cell, reason in failed:
        say(f"FAILED: {cell.title} ({root / cell.folder}): {reason}")
    return 1 if failed else 0


def _run_processes(args: SimpleNamespace) -> None:
    """Run the same command in several processes, each on its own GPU if there are several; they share the cells."""
    gpus = torch.cuda.device_count()
    words = [sys.executable, "-m", "delete_tasks", "benchmark", args.grid, "--work-dir", args.work_dir, "--cells-only"]
    words += ["--keep-models"] if args.keep_models else []
    words += ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    words += ["--device", args.device] if args.device else []
    # More threads than cores would slow all processes down.
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // args.processes))}
    started = []
    for number in range(args.processes):
        visible = {"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus > 1 else {}
        started.append(subprocess.Popen(words, env={**threads, **os.environ, **visible}))
    try:
        for process in started:
            process.wait()
    finally:
        for process in started:
            process.terminate()
