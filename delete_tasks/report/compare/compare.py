"""Comparison of finished runs from their results.json: one table with notes for each task."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...display.table import Column, Table
from ...errors import RequestError
from ..results import RESULTS, read_results

NOT_SETTINGS = ("classes", "seed", "steps_done")  # keys of a recipe that describe the request or the run


@dataclass(frozen=True)
class Run:
    """Finished run: the content of its results.json, and a name that differs from the other runs'."""

    name: str
    results: Mapping[str, Any]

    @property
    def task(self) -> str:
        return plain(self.results["task"])

    @property
    def forgotten(self) -> str:
        return plain(", ".join(self.results["forgotten"]) or "-")

    def values(self, metric: Mapping[str, Any]) -> tuple[float | None, ...]:
        """Return a metric before and after, or one value if the metric itself compares with the original."""
        rows = self.results["rows"]
        names = ("erased",) if metric["relative"] else ("original", "erased")
        return tuple((rows[name].get(metric["name"]) or {}).get("value") for name in names)


def metrics_of(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """List the metrics of all runs of a task that have a column, those of forgotten and retained classes first."""
    metrics = {each["name"]: each for run in runs for each in run.results["metrics"] if each["column"] is not None}
    return sorted(metrics.values(), key=lambda each: ("forget", "retain", None).index(each["role"]))


def read_runs(folders: Iterable[str]) -> list[Run]:
    """Read each work dir's results.json; raise :class:`RequestError` if one is missing or invalid, or a work dir is given
    twice."""
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise RequestError(f"a run is given twice: {', '.join(map(str, paths))}; name each work dir once")
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else map(str, paths)
    return [Run(plain(name), read_results(path / RESULTS)) for name, path in zip(names, paths, strict=True)]


def plain(text: Any) -> str:
    """Replace control characters, since a results.json is untrusted."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def tabulate(runs: Sequence[Run], wide: bool = False) -> Table:
    """Tabulate one task's runs, one line each. Forgotten classes that are the same in every run are in the title."""
    metrics = metrics_of(runs)
    main = [metric for metric in metrics if metric["role"] is not None and not metric["detail"]]
    if wide or not measured(runs, main):
        main = metrics
    several = [Column("forgotten", words=True)] if len({run.forgotten for run in runs}) > 1 else []
    figures = [Column(plain(metric["column"])) for metric in main]
    forgotten = "" if several else f", {runs[0].forgotten} forgotten"
    units = dict.fromkeys(metric["unit"] for metric in metrics if metric["role"] is not None)
    title = f"{runs[0].task}{forgotten} ({' and '.join(map(plain, units))}; before -> after)"
    table = Table([*several, *figures, "steps", "seconds"], "run", title)
    for run in runs:
        cells = [*(run.forgotten for _ in several), *(_cell(run.values(metric)) for metric in main)]
        table.add(run.name, [*cells, str(run.results["steps"]), f"{run.results['seconds']['unlearning']:.0f}"])
    return table


def notes(runs: Sequence[Run]) -> list[str]:
    """Write notes on figures that no run has, on settings in which the runs differ, and on different test data."""
    lines = []
    main = [metric for metric in metrics_of(runs) if metric["role"] is not None and not metric["detail"]]
    missing = [plain(metric["column"]) for metric in main if not measured(runs, [metric])]
    if missing:
        lines.append(f"Not measured in any run: {'; '.join(missing)}")
    settings = [_flat(run.results["recipe"]) for run in runs]
    keys = dict.fromkeys(key for options in settings for key in options if key not in NOT_SETTINGS)
    differing = [key for key in keys if len({options.get(key) for options in settings}) > 1]
    for run, options in zip(runs, settings, strict=True):
        values = ", ".join(f"{key}={options[key]}" for key in differing if key in options)
        if values:
            lines.append(f"{run.name}: {values}")
    if len({run.results["measured_on"] for run in runs}) > 1:
        names = "; ".join(f"{run.name} on {plain(run.results['measured_on'] or 'nothing')}" for run in runs)
        lines.append(f"Not measured on the same data, so the figures do not compare: {names}")
    return lines


def measured(runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if any run has any of these figures."""
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
