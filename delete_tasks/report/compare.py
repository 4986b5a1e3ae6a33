"""Comparison of finished runs from their results.json: one table with notes for each task."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..display.table import Column, Table
from ..errors import RequestError
from .results import RESULTS, read_results

SETTINGS = ("recipe", "data", "expected", "forget_set", "retain_set", "public_data")  # keys of results.json, except:
NOT_SETTINGS = ("classes", "steps_done", "data.test", "data.eval")  # the request, the run, and what has its own note
LONGEST = 28  # characters of a run's name in the table; longer ones are numbered
WIDTH = 80


@dataclass(frozen=True)
class Run:
    """Finished run: the content of its results.json, a name that no other run has, and ``label``, the name in the table."""

    name: str
    results: Mapping[str, Any]
    label: str

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

    def settings(self) -> dict[str, str]:
        """Return the options and the data of the run, as text by name."""
        options: dict[str, str] = {}
        for part in SETTINGS:
            options |= _flat(self.results.get(part), "" if part == "recipe" else f"{part}.")
        return {name: value for name, value in options.items() if name not in NOT_SETTINGS}


def metrics_of(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """List the metrics of all runs of a task that have a column, those of forgotten and retained classes first."""
    metrics = {each["name"]: each for run in runs for each in run.results["metrics"] if each["column"] is not None}
    return sorted(metrics.values(), key=lambda each: ("forget", "retain", None).index(each["role"]))


def read_runs(folders: Iterable[str]) -> list[Run]:
    """Read each work dir's results.json; raise RequestError if one is missing or invalid, or a work dir is given twice."""
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise RequestError(f"a run is given twice: {', '.join(map(str, paths))}; name each work dir once")
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else map(str, paths)
    runs = []
    for number, (name, path) in enumerate(zip(map(plain, names), paths, strict=True), 1):
        runs.append(Run(name, read_results(path / RESULTS), name if len(name) <= LONGEST else f"run {number}"))
    return runs


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
        numbers = (run.results["steps"], run.results["seconds"].get("unlearning"))
        table.add(run.label, [*cells, *(None if number is None else f"{number:.0f}" for number in numbers)])
    return table


def notes(runs: Sequence[Run]) -> list[str]:
    """Write notes on runs, at most 80 columns wide but for longer words: names, verdicts, missing figures, options and data."""
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line for note in _notes(runs) for line in wrapper.wrap(note)]


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.label != run.name:
            yield f"{run.label}: {run.name}"
    for run in runs:
        verdict = run.results.get("verdict")
        if verdict:
            exceeded = verdict["limits"].get("exceeded")
            limits = f" Limits exceeded: {', '.join(exceeded)}." if exceeded else ""
            yield plain(f"{run.label}: {verdict['title']}. {verdict['sentence']}{limits}")
    main = [metric for metric in metrics_of(runs) if metric["role"] is not None and not metric["detail"]]
    missing = [plain(metric["column"]) for metric in main if not measured(runs, [metric])]
    if missing:
        yield f"Not measured in any run: {'; '.join(missing)}"
    if len(runs) == 1:
        return
    settings = [run.settings() for run in runs]
    keys = dict.fromkeys(key for options in settings for key in options)
    differing = [key for key in keys if len({options.get(key) for options in settings}) > 1]
    plainly = [key for key in differing if not key.endswith("sha256")]  # digests say it if nothing else does
    differing = plainly or differing
    yield "The runs differ in:" if differing else "No recorded option or data of the runs differs."
    for run, options in zip(runs, settings, strict=True):
        values = ", ".join(f"{key}={options.get(key, 'none')}" for key in differing)
        if values:
            yield f"{run.label}: {values}"
    measured_on = {run.results["measured_on"] for run in runs}
    if len(measured_on) > 1:
        names = "; ".join(f"{run.label} on {plain(run.results['measured_on'] or 'nothing')}" for run in runs)
        yield f"Not measured on the same data, so the figures do not compare: {names}"
    elif measured_on != {None}:
        figures = [[run.results["rows"]["original"].get(each["name"]) for each in main] for run in runs]
        data = plain(runs[0].results["measured_on"])
        if all(row == figures[0] for row in figures):
            yield f"Measured on the same data, {data}; the original's figures are the same."
        else:
            yield f"Measured on {data}, but the original's figures differ: another original, or other data of that name."


def measured(runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if any run has any of these figures."""
    return any(value is not None for run in runs for metric in metrics for value in run.values(metric))


def _flat(options: Any, prefix: str) -> dict[str, str]:
    """Flatten options to texts by dotted name, without those that are not set."""
    if isinstance(options, Mapping):
        return {name: text for key, value in options.items() for name, text in _flat(value, f"{prefix}{key}.").items()}
    if options in (None, [], ""):
        return {}
    name = plain(prefix.removesuffix("."))
    text = f"{options:.4g}" if isinstance(options, float) else plain(options)
    return {name: text[:12] if name.endswith("sha256") else text}


def _cell(values: Sequence[float | None]) -> str | None:
    if all(value is None for value in values):
        return None
    return " -> ".join("-" if value is None else f"{value:.2f}" for value in values)
