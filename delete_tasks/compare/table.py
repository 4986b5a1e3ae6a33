"""The table of one task's runs, and what has to be known beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from .runs import Run, metrics_of, plain

RUN_ONLY = ("classes", "seed", "steps_done")  # of a recipe: they tell the request or the run, not a setting


def tabulate(runs: Sequence[Run], wide: bool = False) -> Table:
    """A row a run. A column in which nothing was measured is left out, as is the same request in every row."""
    metrics = metrics_of(runs)
    main = [metric for metric in metrics if metric["role"] is not None and not metric["detail"]]
    if wide or not measured(runs, main):
        main = metrics
    columns = [(plain(metric["column"]), [_cell(run.values(metric)) for run in runs]) for metric in main]
    columns.append(("steps", [str(run.results["steps"]) for run in runs]))
    columns.append(("seconds", [f"{run.results['seconds']['unlearning']:.0f}" for run in runs]))

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    rows = [[run.name] for run in runs]
    table.add_column("run", overflow="fold")
    if len({run.forgotten for run in runs}) > 1:
        table.add_column("forgotten", overflow="fold")
        rows = [[*row, run.forgotten] for row, run in zip(rows, runs, strict=True)]
    for title, cells in columns:
        if set(cells) == {"-"}:
            continue
        width = max(map(len, (*title.split(), *cells)))
        table.add_column(title, justify="right", min_width=width, max_width=None if wide else width)
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    for row in rows:
        table.add_row(*row)
    return table


def heading(task: str, runs: Sequence[Run]) -> str:
    """The line above the table."""
    asked = {run.forgotten for run in runs}
    forgotten = f", {asked.pop()} forgotten" if len(asked) == 1 else ""
    units = dict.fromkeys(metric["unit"] for metric in metrics_of(runs) if metric["role"] is not None)
    return f"{task}{forgotten} ({' and '.join(map(plain, units))}; before -> after)"


def notes(runs: Sequence[Run]) -> list[str]:
    """Figures that no run has, settings in which the runs differ, and whether they were measured on other data."""
    lines = []
    main = [metric for metric in metrics_of(runs) if metric["role"] is not None and not metric["detail"]]
    missing = [plain(metric["column"]) for metric in main if not measured(runs, [metric])]
    if missing:
        lines.append(f"Not measured in any run: {'; '.join(missing)}")
    settings = [_flat(run.results["recipe"]) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one if key not in RUN_ONLY)
    differing = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    for run, given in zip(runs, settings, strict=True):
        told = ", ".join(f"{key}={given[key]}" for key in differing if key in given)
        if told:
            lines.append(f"{run.name}: {told}")
    data = [run.results["measured_on"] for run in runs]
    if len(set(data)) > 1:
        told = "; ".join(f"{run.name} on {plain(one or 'nothing')}" for run, one in zip(runs, data, strict=True))
        lines.append(f"Not measured on the same data, so the figures do not compare: {told}")
    return lines


def measured(runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any run has any of these figures."""
    return any(value is not None for run in runs for metric in metrics for value in run.values(metric))


def _flat(options: Any, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in options.items() if isinstance(options, Mapping) else ():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[plain(f"{prefix}{key}")] = f"{value:.4g}" if isinstance(value, float) else plain(value)
    return found


def _cell(values: Sequence[float | None]) -> str:
    told = ["-" if value is None else f"{value:.2f}" for value in values]
    return "-" if set(told) == {"-"} else " -> ".join(told)
