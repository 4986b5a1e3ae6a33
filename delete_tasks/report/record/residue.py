"""Where the original, and what names what was forgotten, still is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...fileio.digests import SUMS, WEIGHTS, is_temporary
from ...fileio.workdir import passing
from .parts import ATTENTION, PAGE, RECORD
from .people import SALT, Hider
from .samples import SAMPLES
from .sign import SIGNATURE

# Files of a record, which are no residue.
OWN = (RECORD, PAGE, SUMS, SIGNATURE, SALT, SAMPLES, ATTENTION)


def residue(folder: Path, original: str, erased: str | None, hider: Hider) -> list[dict[str, Any]]:
    """Where the original, states on the way to the result, and names of what was forgotten still are. What was published,
    ``erased``, is no residue.

    Returns:
        ``what`` and ``where`` of each, inside the work dir as paths relative to it.
    """
    found = [{"what": "the original model, as it was before", "where": hider.path(original)}]
    going = passing(folder)
    published = None if erased is None else Path(erased).resolve()
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        inside = published is not None and (path.resolve() == published or published in path.resolve().parents)
        if not is_temporary(path) and (inside or (path.parent == folder and path.name in OWN)):
            continue
        if path.resolve() in going:
            continue
        found.append({"what": _kind(path), "where": hider.path(path)})
    elsewhere = "copies elsewhere: backups, other machines, models made from the original"
    return [
        *found,
        {"what": "the samples of the forget set, and copies of them in caches", "where": "where they were read from"},
        {"what": elsewhere, "where": "not known"},
    ]


def _kind(path: Path) -> str:
    if is_temporary(path):
        return "temporary file that a run left when it was stopped, perhaps with weights in it"
    if path.suffix in WEIGHTS:
        return "state of the run: weights on the way, and the optimizer's state"
    if path.suffix in (".log", ".jsonl") or "vis_data" in path.parts:
        return "log of the run, which names what was forgotten"
    if path.suffix == ".py":
        return "config of the run, which names what was forgotten"
    if path.suffix in (".png", ".jpg"):
        return "picture made from test data"
    return "file of the run, which may name what was forgotten"
