"""The table of one task's runs, and what has to be known beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from . import Compared, Measure
from .runs import Run, plain


def tabulate(runs: Sequence[Run], how: Compared, wide: bool = False) -> Table:
    """A row a run. A column in which nothing was measured is left out, as is the same request in every row."""
    asked = [run.asked(how) for run in runs]
    measures = [how.forgotten, how.kept, *how.others]
    if wide or not measured(runs, measures, how):
        measures += how.wide
    columns = [(measure.title, [_cell(run.values(measure, how)) for run in runs]) for measure in measures]
    for title in ("steps", "seconds"):
        given = [run.number(title) for run in runs]
        columns.append((title, ["-" if value is None else f"{value:.0f}" for value in given]))

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    rows = [[run.name] for run in runs]
    table.add_column("run", overflow="fold")
    if len(set(asked)) > 1:
        table.add_column("forgotten", overflow="fold")
        rows = [[*row, what] for row, what in zip(rows, asked, strict=True)]
    for title, cells in columns:
        if set(cells) == {"-"}:
            continue
        width = max(map(len, (*title.split(), *cells)))
        table.add_column(title, justify="right", min_width=width, max_width=None if wide else width)
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    for row in rows:
        table.add_row(*row)
    return table


def heading(task: str, runs: Sequence[Run], how: Compared) -> str:
    """The line above the table."""
    asked = {run.asked(how) for run in runs}
    forgotten = f", {asked.pop()} forgotten" if len(asked) == 1 else ""
    return f"{task}{forgotten} ({how.unit}; before -> after)"


def notes(runs: Sequence[Run], how: Compared) -> list[str]:
    """Figures that no run has, settings in which the runs differ, and whether they were measured on other data."""
    lines = []
    missing = [measure.title for measure in (how.forgotten, how.kept) if not measured(runs, [measure], how)]
    if missing:
        lines.append(f"Not measured in any run: {'; '.join(missing)}")
    settings = [_flat(run.at("unlearn")) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one if key != "classes")  # the table says those
    differing = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    for run, given in zip(runs, settings, strict=True):
        told = ", ".join(f"{key}={given[key]}" for key in differing if key in given)
        if told:
            lines.append(f"{run.name}: {told}")
    data = [None if how.data is None else run.at(how.data) for run in runs]
    if len({json.dumps(one) for one in data}) > 1:
        told = "; ".join(f"{run.name} on {plain(one or 'nothing')}" for run, one in zip(runs, data, strict=True))
        lines.append(f"Not measured on the same data, so the figures do not compare: {told}")
    return lines


def measured(runs: Sequence[Run], measures: Sequence[Measure], how: Compared) -> bool:
    """Whether any run has any of these figures."""
    return any(value is not None for run in runs for measure in measures for value in run.values(measure, how))


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
