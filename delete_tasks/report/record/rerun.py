"""``record verify --rerun``: the figures of a record, measured again from the models and data that it names.

It starts only when every digest (and the signature, where a key is given) held. Digests can be made by anyone, so a task still
takes what a record says as it takes a stranger's file: nothing that it names is imported or run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import RequestError, first_line
from ...fileio.processes import raise_lost
from ...task import load_task
from .parts import FAILED, NOT_CHECKED, OK, Check
from .people import find_place, read_salt
from .samples import SampleList

TOLERANCE = 0.05  # percent or points: other processors and versions round differently


def measure_again(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Check]:
    """A check for each figure: OK, FAILED, or NOT CHECKED with the reason."""
    figures = record["figures"]
    try:
        again: Mapping[str, Any] = _measured(record, folder, names)
    except Exception as error:  # a model, data or package that are not what they were, in any of a hundred ways
        raise_lost(error)
        return [Check(f"figure {figure['name']}", NOT_CHECKED, first_line(error)) for figure in figures]
    return [_check(figure, again.get(figure["name"], "the task does not measure it again")) for figure in figures]


def _check(figure: Mapping[str, Any], now: float | str | None) -> Check:
    what, then = f"figure {figure['name']}", figure["value"]
    if then is None:
        return Check(what, NOT_CHECKED, "it was not measured then")
    if now is None or isinstance(now, str):
        return Check(what, NOT_CHECKED, now or "the data do not tell it any more")
    if not abs(now - then) <= TOLERANCE * max(1.0, abs(then) / 100):  # some rises are of thousands of percent
        return Check(what, FAILED, f"was {then:.2f}, is {now:.2f}")
    return Check(what, OK, f"{now:.2f}")


def _measured(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> Mapping[str, float | str | None]:
    from .measurement import unpack

    everything = [figure["name"] for figure in record["figures"]]
    if record["models"]["erased"] is None:
        return dict.fromkeys(everything, "no erased model was written")
    if record["measurement"] is None:
        return dict.fromkeys(everything, record["measurement_note"] or "the record does not say how they were measured")
    hidden = record["forgotten"]["names_hidden"] or record["samples"]["names_hashed"]
    salt = read_salt(folder) if hidden else None
    task = load_task(record["task"])
    how = unpack(record["measurement"], folder, salt, names)
    samples = SampleList(folder / record["samples"]["list"], salt)
    paths = {}
    for role, model in record["models"].items():
        try:
            place = find_place(model["path"], folder)
        except FileNotFoundError:
            continue
        if place.exists():
            paths[role] = str(place)
    # Whatever the record says: no code of a model runs, and nothing is fetched.
    options = {**how["options"], "recorded": True, "allow_import": False, "samples": samples}
    opened = None if task.open is None else task.open(paths, how["data"], options)
    if opened is None:
        raise RequestError(f"{task.name} does not open these models to measure them again")
    found = opened.evaluate(task.metrics)
    return {name: each.note if each.value is None else each.value for name, each in found.rows["erased"].items()}
