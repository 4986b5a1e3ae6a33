"""Section ``audit`` of the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...audit.depth import retrained_names
from ...audit.pictures import BARS, TSNE
from .people import Hider

CAPTIONS = {
    BARS: "Figures of attacks on the forgotten classes' held-out samples, by model.",
    TSNE: "Features of held-out samples by model (t-SNE), the forgotten classes as triangles.",
}


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
