"""``record verify --rerun``: new measurement of a record's figures from the models and data that it names.

All digests (and, with a key, the signature) must match. Since anyone can compute digests, a record is still untrusted input:
nothing that it names is imported or run.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import RequestError, first_line
from ...evaluation.metric import Measured
from ...evaluation.opened import Opened
from ...fileio.processes import raise_lost
from ...task import Task, load_task
from .measurement import unpack
from .parts import FAILED, NOT_CHECKED, OK, Check
from .people import find_forgotten, find_place, read_salt
from .samples import SampleList

TOLERANCE = 0.05  # percent or points: other processors and versions round differently


def measure_again(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Check]:
    """Measure each figure again: OK, FAILED, or NOT CHECKED with the reason."""
    figures = record["figures"]
    try:
        task, opened = reopen(record, folder, names)
        again = opened.evaluate(task.metrics).rows["erased"]
    except Exception as error:  # a changed model, data set or package can fail in any way
        raise_lost(error)
        return [Check(f"figure {figure['name']}", NOT_CHECKED, first_line(error)) for figure in figures]
    unknown = Measured(note="the task does not measure it again")
    return [_check(figure, again.get(figure["name"], unknown)) for figure in figures]


def _check(figure: Mapping[str, Any], again: Measured) -> Check:
    what, then, now = f"figure {figure['name']}", figure["value"], again.value
    if then is None:
        return Check(what, NOT_CHECKED, "the run did not measure it")
    if now is None:
        return Check(what, NOT_CHECKED, again.note or "it can no longer be measured on the data")
    if not abs(now - then) <= TOLERANCE * max(1.0, abs(then) / 100):  # some figures are thousands of percent
        return Check(what, FAILED, f"was {then:.2f}, is {now:.2f}")
    return Check(what, OK, f"{now:.2f}")


def reopen(record: Mapping[str, Any], folder: Path, names: Sequence[str] = ()) -> tuple[Task, Opened]:
    """Open the models and samples of a verified record; raise whatever changed models, data or packages raise."""
    if record["models"]["erased"] is None:
        raise RequestError("no erased model was written")
    if record["measurement"] is None:
        raise RequestError(record["measurement_note"] or "the record does not say how the figures were measured")
    salt = read_salt(folder) if record["forgotten"]["names_hidden"] or record["samples"]["names_hashed"] else None
    task = load_task(record["task"])
    measurement = unpack(record["measurement"], folder, salt, names)
    samples = SampleList(folder / record["samples"]["list"], salt)
    paths = {}
    for role, model in record["models"].items():
        with suppress(FileNotFoundError):
            path = find_place(model["path"], folder)
            if path.exists():
                paths[role] = str(path)
    # Never run a model's code or fetch anything, whatever the record says.
    options = {**measurement["options"], "recorded": True, "allow_import": False, "samples": samples}
    options["forgotten"] = partial(find_forgotten, record["forgotten"]["classes"], salt)
    opened = None if task.open is None else task.open(paths, measurement["data"], options)
    if opened is None:
        raise RequestError(f"{task.name} cannot open these models to measure them again")
    return task, opened
