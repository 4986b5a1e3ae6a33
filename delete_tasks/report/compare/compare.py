"""Finished runs side by side, from their results.json: one table for each task, and what to know beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...display.table import Column, Table
from ...errors import RequestError
from ..results import RESULTS, read_results

RUN_ONLY = ("classes", "seed", "steps_done")  # of a recipe: they tell the request or the run, not a setting


@dataclass(frozen=True)
class Run:
    """Finished run.

    Attributes:
        name: Short name of its work dir, different from the other runs' names.
        results: Content of its results.json.
    """

    name: str
    results: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Command of its plugin."""
        return plain(self.results["task"])

    @property
    def forgotten(self) -> str:
        """Names of the forgotten classes."""
        return plain(", ".join(self.results["forgotten"]) or "-")

    def values(self, metric: Mapping[str, Any]) -> tuple[float | None, ...]:
        """Give a metric before and after, or one value if the metric itself compares with the original."""
        rows = self.results["rows"]
        names = ("erased",) if metric["relative"] else ("original", "erased")
        return tuple((rows[name].get(metric["name"]) or {}).get("value") for name in names)


def metrics_of(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """List the metrics of all runs of a task that have a column, those of forgotten and retained classes first."""
    metrics = {each["name"]: each for run in runs for each in run.results["metrics"] if each["column"] is not None}
    return sorted(metrics.values(), key=lambda each: ("forget", "retain", None).index(each["role"]))


def read_runs(folders: Iterable[str]) -> list[Run]:
    """Read each work dir's results.json.

    Raises:
        RequestError: A work dir has none, it was not written by a command of a task, or a work dir is given twice.
    """
    places = [Path(folder) for folder in folders]
    if len({place.resolve() for place in places}) < len(places):
        raise RequestError(f"a run is given twice: {', '.join(map(str, places))}; name each work dir once")
    short = [place.resolve().name for place in places]
    names = short if len(set(short)) == len(short) else [str(place) for place in places]
    return [Run(plain(name), read_results(place / RESULTS)) for name, place in zip(names, places, strict=True)]


def plain(text: Any) -> str:
    """Replace characters that a terminal obeys: a results.json may come from anyone."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def tabulate(runs: Sequence[Run], wide: bool = False) -> Table:
    """Tabulate one task's runs, a line each. A request that is the same in every run is in the title instead."""
    metrics = metrics_of(runs)
    main = [metric for metric in metrics if metric["role"] is not None and not metric["detail"]]
    if wide or not measured(runs, main):
        main = metrics
    several = [Column("forgotten", words=True)] if len({run.forgotten for run in runs}) > 1 else []
    figures = [Column(plain(metric["column"])) for metric in main]
    table = Table([*several, *figures, "steps", "seconds"], "run", heading(runs))
    for run in runs:
        cells = [*(run.forgotten for _ in several), *(_cell(run.values(metric)) for metric in main)]
        table.add(run.name, [*cells, str(run.results["steps"]), f"{run.results['seconds']['unlearning']:.0f}"])
    return table


def heading(runs: Sequence[Run]) -> str:
    """Write the line above the table."""
    requests = {run.forgotten for run in runs}
    forgotten = f", {requests.pop()} forgotten" if len(requests) == 1 else ""
    units = dict.fromkeys(metric["unit"] for metric in metrics_of(runs) if metric["role"] is not None)
    return f"{runs[0].task}{forgotten} ({' and '.join(map(plain, units))}; before -> after)"


def notes(runs: Sequence[Run]) -> list[str]:
    """List figures that no run has, settings in which the runs differ, and whether they were measured on other data."""
    lines = []
    main = [metric for metric in metrics_of(runs) if metric["role"] is not None and not metric["detail"]]
    missing = [plain(metric["column"]) for metric in main if not measured(runs, [metric])]
    if missing:
        lines.append(f"Not measured in any run: {'; '.join(missing)}")
    settings = [_flat(run.results["recipe"]) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one if key not in RUN_ONLY)
    differing = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    for run, options in zip(runs, settings, strict=True):
        values = ", ".join(f"{key}={options[key]}" for key in differing if key in options)
        if values:
            lines.append(f"{run.name}: {values}")
    data = [run.results["measured_on"] for run in runs]
    if len(set(data)) > 1:
        names = "; ".join(f"{run.name} on {plain(one or 'nothing')}" for run, one in zip(runs, data, strict=True))
        lines.append(f"Not measured on the same data, so the figures do not compare: {names}")
    return lines


def measured(runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether any run has any of these figures."""
    return any(value is not None for run in runs for metric in metrics for value in run.values(metric))


def _flat(options: Any, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in options.items() if isinstance(options, Mapping) else ():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[plain(f"{prefix}{key}")] = f"{value:.4g}" if isinstance(value, float) else plain(value)
    return flat


def _cell(values: Sequence[float | None]) -> str | None:
    if all(value is None for value in values):
        return None
    return " -> ".join("-" if value is None else f"{value:.2f}" for value in values)
