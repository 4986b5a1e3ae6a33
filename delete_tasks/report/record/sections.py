"""Sections ``audit`` and ``residue`` of the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...audit.depth import retrained_names
from ...audit.pictures import BARS, TSNE
from ...fileio.digests import SUMS, WEIGHTS, is_temporary
from ...fileio.workdir import passing
from .parts import ATTENTION, PAGE, RECORD
from .people import SALT, Hider
from .samples import SAMPLES
from .sign import SIGNATURE

CAPTIONS = {
    BARS: "Figures of attacks on the forgotten classes' held-out samples, by model.",
    TSNE: "Features of held-out samples by model (t-SNE), the forgotten classes as triangles.",
}
# Files of the record, which are not residue.
RECORD_FILES = (RECORD, PAGE, SUMS, SIGNATURE, SALT, SAMPLES, ATTENTION)


def readability(results: Mapping[str, Any], hider: Hider) -> dict[str, Any] | None:
    """Make the section ``audit``: figures of attacks on the forgotten classes; None without an audit."""
    audit = results.get("audit")
    if audit is None:
        return None
    rows = audit.get("rows") or {}
    attacks = []
    for attack in audit.get("attacks") or ():
        name = attack["name"]
        erased = rows["erased"][name]
        others = [rows[row][name]["value"] for row in retrained_names(rows) if rows[row][name]["value"] is not None]
        depth = audit["depth"].get(name)
        attacks.append(
            {
                **{key: attack[key] for key in ("name", "title", "unit", "of", "source", "reads")},
                "original": rows["original"][name]["value"],
                "erased": erased["value"],
                "interval": erased["interval"],
                "retrained": sum(others) / len(others) if others else None,
                "depth": None if depth is None else depth["value"],
                "chance": audit["chance"][name],
                "count": erased["count"],
                "note": hider.text(erased["note"]),
            }
        )
    return {"level": audit["level"], "trained_on": audit.get("trained_on"), "attacks": attacks}


def audit_pictures(results: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """List (path, caption) of the audit's pictures."""
    return [(str(folder / name), CAPTIONS[name]) for name in (results.get("audit") or {}).get("pictures", ())]


def residue(folder: Path, original: str, erased: str | None, hider: Hider) -> list[dict[str, Any]]:
    """List the original, states of the run and files that name the forgotten classes, except the published model ``erased``:
    ``what`` and ``where``, inside the work dir as relative paths."""
    items = [{"what": "the original model, before erasure", "where": hider.path(original)}]
    transient = passing(folder)
    published = None if erased is None else Path(erased).resolve()
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        full = path.resolve()
        of_model = published is not None and full.is_relative_to(published)
        of_record = path.parent == folder and path.name in RECORD_FILES
        if full not in transient and (is_temporary(path) or not (of_model or of_record)):
            items.append({"what": _kind(path), "where": hider.path(path)})
    elsewhere = "copies elsewhere: backups, other machines, models made from the original"
    return [
        *items,
        {"what": "the samples of the forget set, and copies of them in caches", "where": "the data's folder"},
        {"what": elsewhere, "where": "unknown"},
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
