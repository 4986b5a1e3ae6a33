"""Finished runs, as their results.json tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..evaluation.results import RESULTS, read_results


@dataclass(frozen=True)
class Run:
    """One work dir.

    Attributes:
        name: Short, and different from the other runs' names.
        results: What results.json holds.
    """

    name: str
    results: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Its plugin's command."""
        return plain(self.results["task"])

    @property
    def forgotten(self) -> str:
        """Names of what was to be forgotten."""
        return plain(", ".join(self.results["forgotten"]) or "-")

    def values(self, metric: Mapping[str, Any]) -> tuple[float | None, ...]:
        """Before and after, or one value where the metric itself compares with the original."""
        rows = self.results["rows"]
        shown = ("erased",) if metric["relative"] else ("original", "erased")
        return tuple((rows[row].get(metric["name"]) or {}).get("value") for row in shown)


def metrics_of(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """The metrics of all runs of a task that have a column, those that say what was forgotten and kept first."""
    found = {each["name"]: each for run in runs for each in run.results["metrics"] if each["column"] is not None}
    return sorted(found.values(), key=lambda each: ("forget", "retain", None).index(each["role"]))


def read_runs(folders: Iterable[str]) -> list[Run]:
    """Read each work dir's results.json.

    Raises:
        RequestError: A work dir has none, or it is not what a command of a task writes, or is given twice.
    """
    places = [Path(folder) for folder in folders]
    if len({place.resolve() for place in places}) < len(places):
        raise RequestError(f"a run is given twice: {', '.join(map(str, places))}; name each work dir once")
    short = [place.resolve().name for place in places]
    names = short if len(set(short)) == len(short) else [str(place) for place in places]
    return [Run(plain(name), read_results(place / RESULTS)) for name, place in zip(names, places, strict=True)]


def plain(text: Any) -> str:
    """Without characters that a terminal obeys: a results.json may be somebody else's."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
