"""Residue of a run: the original, and files that name the forgotten classes."""

from pathlib import Path
from typing import Any

from ...fileio.digests import SUMS, WEIGHTS, is_temporary
from ...fileio.workdir import passing
from .parts import ATTENTION, PAGE, RECORD
from .people import SALT, Hider
from .samples import SAMPLES
from .sign import SIGNATURE

# Files of the record, which are not residue.
RECORD_FILES = (RECORD, PAGE, SUMS, SIGNATURE, SALT, SAMPLES, ATTENTION)


def residue(folder: Path, original: str, erased: str | None, hider: Hider) -> list[dict[str, Any]]:
    """List the original, states of the run and files that name the forgotten classes, except the published model ``erased``:
    ``what`` and ``where``, inside the work dir as relative paths."""
    items = [{"what": "the original model, before erasure", "where": hider.path(original)}]
    going = passing(folder)
    published = None if erased is None else Path(erased).resolve()
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        inside = published is not None and (path.resolve() == published or published in path.resolve().parents)
        of_record = path.parent == folder and path.name in RECORD_FILES
        if path.resolve() not in going and (is_temporary(path) or not (inside or of_record)):
            items.append({"what": _kind(path), "where": hider.path(path)})
    elsewhere = "copies elsewhere: backups, other machines, models made from the original"
    return [
        *items,
        {"what": "the samples of the forget set, and copies of them in caches", "where": "where they were read from"},
        {"what": elsewhere, "where": "not known"},
    ]


def _kind(path: Path) -> str:
    if is_temporary(path):
        return "temporary file of a stopped run, possibly with weights"
    if path.suffix in WEIGHTS:
        return "state of the run: intermediate weights, and the optimizer's state"
    if path.suffix in (".log", ".jsonl") or "vis_data" in path.parts:
        return "log of the run, which names the forgotten classes"
    if path.suffix == ".py":
        return "config of the run, which names the forgotten classes"
    if path.suffix in (".png", ".jpg"):
        return "picture made from test data"
    return "file of the run, which may name the forgotten classes"
