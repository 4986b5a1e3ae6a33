"""Finished runs, as their results.json tells of them."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..task import plugin_modules
from . import Compared, Measure

RESULTS = "results.json"


@dataclass(frozen=True)
class Run:
    """One work dir.

    Attributes:
        name: Short, and different from the other runs' names.
        task: Its plugin's command.
        results: What results.json holds.
        source: The file's path, for messages.
    """

    name: str
    task: str
    results: Mapping[str, Any]
    source: str

    def at(self, path: str) -> Any:
        """What results.json holds there; None where a key is missing or null."""
        value: Any = self.results
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def number(self, path: str) -> float | None:
        """A figure; null, there or above it, was not measured.

        Raises:
            RequestError: There is no such place, or something else than a finite number is there.
        """
        value: Any = self.results
        for key in path.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping) or key not in value:
                raise RequestError(
                    f"'{self.source}' has no {path}; another version of this package wrote it. Run its command again"
                )
            value = value[key]
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
            return value
        raise RequestError(f"'{self.source}': {path} is {value!r}; expected a number or null. Run its command again")

    def values(self, measure: Measure, how: Compared) -> tuple[float | None, ...]:
        """Before and after, or one value where the measure has no row."""
        if "{row}" not in measure.path:
            return (self.number(measure.path),)
        erased = next((row for row in how.erased if self.at(f"rows.{row}") is not None), how.erased[0])
        return tuple(self.number(measure.path.replace("{row}", row)) for row in ("original", erased))

    def asked(self, how: Compared) -> str:
        """Names of what was to be forgotten."""
        found = self.at(how.asked)
        return plain(", ".join(map(str, found)) if isinstance(found, list) else found or "-")


def read_runs(folders: Iterable[str]) -> list[Run]:
    """Read each work dir's results.json.

    Raises:
        RequestError: A work dir has none, or it is not what a command of an installed task writes, or is given twice.
    """
    places = [Path(folder) for folder in folders]
    if len({place.resolve() for place in places}) < len(places):
        raise RequestError(f"a run is given twice: {', '.join(map(str, places))}; name each work dir once")
    short = [place.resolve().name for place in places]
    names = short if len(set(short)) == len(short) else [str(place) for place in places]
    return [_read(plain(name), place / RESULTS) for name, place in zip(names, places, strict=True)]


def _read(name: str, file: Path) -> Run:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f"no results at '{file}' ({error.strerror}); give work dirs of finished runs, which hold a {RESULTS}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"'{file}' is no JSON ({error}); run its command again") from error
    task = results.get("task") if isinstance(results, dict) else None
    tasks = plugin_modules()
    if not isinstance(task, str) or task not in tasks or not isinstance(results.get("rows"), dict):
        raise RequestError(
            f"'{file}' holds no results of a run: 'task' is {task!r}, expected one of {', '.join(sorted(tasks))}, with 'rows'; "
            "give work dirs in which a model forgot something"
        )
    return Run(name, task, results, str(file))


def how_to_compare(task: str) -> Compared:
    """What the task's plugin says of its results.

    Raises:
        RequestError: It says nothing.
        MissingExtraError: The plugin is there, but not what it needs.
    """
    commands = importlib.import_module(f"{plugin_modules()[task]}.commands")
    found = getattr(commands, "COMPARED", None)
    if not isinstance(found, Compared):
        raise RequestError(
            f"the plugin of '{task}' does not say how its runs are compared (no COMPARED in its commands.py)"
        )
    return found


def plain(text: Any) -> str:
    """Without characters that a terminal obeys: a results.json may be somebody else's."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
