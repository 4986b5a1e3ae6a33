"""Section ``audit`` of the record: what attacks can still read of the forgotten classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...audit.depth import HIDDEN, UNKNOWN, retrained_names
from ...audit.in_run import THIRD
from ...audit.pictures import BARS, TSNE
from ...audit.report import headline
from .people import Hider

CAPTIONS = {
    BARS: "What attacks read from the forgotten classes' held-out samples, by model.",
    TSNE: "The models' features of held-out samples in the plane (t-SNE), the forgotten classes as triangles.",
}


def word_of(results: Mapping[str, Any]) -> str | None:
    """Return the audit's word of a run, see :mod:`delete_tasks.audit.depth`; None without an audit."""
    audit = results.get("audit")
    return None if audit is None else audit["verdict"]["word"]


def is_measured(word: str | None) -> bool:
    """Whether an audit ran and measured."""
    return word is not None and word != UNKNOWN


def is_hidden(word: str | None) -> bool:
    """Whether the classes are hidden, not forgotten."""
    return word == HIDDEN


def readability(results: Mapping[str, Any], hider: Hider) -> dict[str, Any] | None:
    """Make the section ``audit``; None without an audit."""
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
    sentence = headline(audit["verdict"])
    if audit.get("trained_on") == THIRD:
        sentence += " Attacks were trained on a third of the held-out samples and tested on the rest."
    return {
        "level": audit["level"],
        "verdict": audit["verdict"]["word"],
        "said": hider.text(sentence),
        "attacks": attacks,
    }


def pictures(results: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """List (path, caption) of the audit's pictures."""
    audit = results.get("audit") or {"pictures": []}
    return [(str(folder / name), CAPTIONS[name]) for name in audit["pictures"]]
