"""What the erasure record tells of ``faces remove``, and how its figures are measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delete_images.evaluate import answers
from delete_images.looking import open_network
from delete_tasks.errors import RequestError
from delete_tasks.record import Figure, Look, RecordParts

from .datasets import framing_of
from .photos import open_photos
from .report import identification

FAR = "1e-02"  # of the verification figures


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``faces remove``."""
    before, after = results["rows"]["original"], results["rows"]["erased"]
    pairs = {name: _verified(row) for name, row in (("original", before), ("erased", after))}
    photos = results["data"]
    measured = photos["eval"]
    how = {"eval": measured, "options": photos["options"], "ids": list(runner.forget_ids)}
    return RecordParts(
        [
            Figure("identified", "held-out photos of the removed people that are identified, with their rows put back",
                   after["identified"]["removed"], "percent", 5.0, before["identified"]["removed"]),
            Figure("kept_drop", "loss of identified held-out photos of the other people",
                   _drop(before["identified"]["kept"], after["identified"]["kept"]), "points", 2.0),
            Figure("verified", "pairs of photos of a removed person that verify at one false accept in a hundred",
                   pairs["erased"], "percent", 50.0, pairs["original"]),
        ],
        pictures=[(str(Path(runner.work_dir) / "before_after.png"), "Held-out photos, and who the original and the erased "
                   "model take them for.")],
        measurement=None if measured is None else how,
        measured_on=None if measured is None else f"held-out photos in {measured}",
        look=Look([measured or photos["photos"]], runner.forget_ids[0], photos["options"]),
        limits=("Whoever has photos of a person can put the person's row back; the figures say what the embeddings then tell.",),
    )  # fmt: skip


def _verified(row: Mapping[str, Any]) -> float | None:
    return None if row["verification"] is None else row["verification"]["at"][FAR]["removed"]


def _drop(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(before - after, 2)


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | None]:
    """``identified`` and ``kept_drop``, through the original's head, which has everybody's row.

    Raises:
        RequestError: The original, whose head is needed, is not there any more.
    """
    if "original" not in paths:
        raise RequestError(
            "measuring again needs the original, whose head has the removed people's rows; it is not there"
        )
    original, erased = _open(paths["original"]), _open(paths["erased"])
    spec = original[1]
    framing = framing_of(spec, **how["options"])
    gallery = open_photos(how["eval"], "test", framing, spec.classes, "Finding held-out faces").data
    head, ids = original[0].head, how["ids"]
    rows = {}
    for name, network in (("original", original[0]), ("erased", erased[0])):
        network.head = head
        rows[name] = identification(answers(network, spec, gallery, name), ids)
    return {
        "identified": rows["erased"]["removed"],
        "kept_drop": _drop(rows["original"]["kept"], rows["erased"]["kept"]),
    }


def _open(path: str) -> tuple[Any, Any]:
    opened = open_network(path, {})
    if opened is None:
        raise RequestError(f"'{path}' is no model folder (model.json and weights.safetensors)")
    return opened


def asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``results['data']`` holds for the record: the command's data and how its photos were framed."""
    kept: Sequence[str] = ("aligned", "largest_face")
    return {
        "photos": options["photos"],
        "eval": options["eval"],
        "options": {name: bool(options[name]) for name in kept},
    }
