"""Sections ``audit`` and ``before_after`` of the record, and captions of the audit's pictures."""

from collections.abc import Mapping
from typing import Any

from ...audit.pictures import BARS, TSNE
from ...audit.results import retrained_names
from ...evaluation.metric import Evaluation, Row
from .people import Hider

MOST_OWN, MOST = 2, 4  # bars of the model's own answers, and bars in all
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


def before_after(evaluation: Evaluation, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Choose percentages of the forgotten classes that were measured of the original and of the erased model: ``before_after`` of
    results.json and of the record.

    The attack that decided the verdict comes before the others, which are sorted by what they still read above chance. Attacks
    that read no more than chance of the original are left out.
    """
    row = Row(evaluation.data.get("original", {}), None, evaluation.ids, evaluation.names)
    own = [
        _bar(metric.json(), results["rows"], None if metric.chance is None else metric.chance(row))
        for metric in evaluation.metrics
        if metric.role == "forget" and not metric.detail
    ]
    audit, decided_by = results["audit"] or {}, results["verdict"]["decided_by"]
    bars = (_bar(one, audit["rows"], audit["chance"][one["name"]]) for one in audit.get("attacks", ()) if one["reads"])
    read = [bar for bar in bars if bar and (bar["chance"] is None or bar["before"] > bar["chance"])]
    read.sort(key=lambda bar: (bar["name"] != decided_by, (bar["chance"] or 0.0) - bar["after"]))
    return [*[bar for bar in own if bar][:MOST_OWN], *read][:MOST]


def _bar(metric: Mapping[str, Any], rows: Mapping[str, Any], chance: float | None) -> dict[str, Any] | None:
    """Describe a bar; None if the figure is no percentage, or was not measured of both models."""
    original, erased = (rows.get(row, {}).get(metric["name"]) or {"value": None} for row in ("original", "erased"))
    if metric["unit"] != "percent" or None in (original["value"], erased["value"]):
        return None
    described = {key: metric[key] for key in ("name", "title", "column", "of")}
    figures = {
        "before": original["value"],
        "after": erased["value"],
        "interval": erased["interval"],
        "count": erased["count"],
    }
    return {**described, "attack": "reads" in metric, **figures, "chance": chance}
