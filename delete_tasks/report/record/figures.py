"""Figures of a record: with limits (entries, lines in the terminal, the exit status), of attacks, and before and after."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ...audit.pictures import BARS, CURVES, TSNE
from ...audit.results import names_of
from ...audit.verdict import FAIL, NOT_MEASURED, PASS, RED, STATUSES, UNCERTAIN
from ...evaluation.metric import Evaluation, Measured, Metric, Row
from .people import Hider

FEW = 20  # samples; a limit that holds on fewer is shown with their number
LIMIT_EXCEEDED, NOT_PUBLISHED = 3, 4  # exit statuses; the first only with --fail-on-limit
WIDTH = 80
MOST_OWN, MOST = 2, 4  # bars of the model's own answers, and bars in all
CAPTIONS = {
    BARS: "Figures of attacks on the forgotten classes' held-out samples, by model.",
    CURVES: "Relearning: accuracy by step while a model is fine-tuned on a few samples of the forgotten classes.",
    TSNE: "Features of held-out samples by model (t-SNE), the forgotten classes as triangles.",
}


def exit_status(verdict: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], withheld: str | None, fail: bool) -> int:
    """Return 4 without a published model; 3 with ``fail`` if the verdict is red or a user's limit is not surely met; else 0."""
    if withheld is not None:
        return NOT_PUBLISHED
    unmet = any(row["status"] != PASS and row["limit_set_by"] == "user" for row in rows)
    return LIMIT_EXCEEDED if fail and (verdict["level"] == RED or unmet) else 0


def rows_of(
    metrics: Sequence[Metric], rows: Mapping[str, Mapping[str, Any]], accept: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Compare ``rows`` of results.json with limits, ``accept`` or default, of metrics where less is better: its ``limits``."""
    nothing, limits = Measured().json(), []
    for metric in metrics:
        limit = accept.get(metric.name, metric.limit)
        if limit is None or not metric.lower_is_better:
            continue
        original = (None if metric.relative else rows["original"].get(metric.name)) or nothing
        erased = rows["erased"].get(metric.name) or {**nothing, "note": "it was not measured"}
        value = erased["value"]
        low, high = erased["interval"] or (value, value)
        described = {
            **{key: getattr(metric, key) for key in ("name", "title", "unit")},
            "original": original["value"],
            "original_interval": original["interval"],
            **{key: erased[key] for key in ("value", "interval", "count")},
            "of": metric.of,
            "note": erased["note"],
            "at_most": limit,
            "warns": metric.warns,
            "limit_set_by": "user" if metric.name in accept else "default",
            "status": NOT_MEASURED if value is None else PASS if high <= limit else FAIL if low > limit else UNCERTAIN,
        }
        limits.append(described)
    return limits


def few(row: Mapping[str, Any]) -> bool:
    """Return True if a limit holds on few samples."""
    return row["status"] == PASS and row["count"] is not None and row["count"] < FEW


def number(value: float | None, unit: str = "") -> str:
    """Format a figure with its unit, or NOT MEASURED."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.2f}{'%' if unit == 'percent' else f' {unit}' if unit else ''}"


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the limits for the terminal, 80 columns at most: number by status, lines of those measured, reasons for others."""
    counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    words = {PASS: "hold", FAIL: "exceeded", UNCERTAIN: "uncertain", NOT_MEASURED: "not measured"}
    head = "Limits: " + (", ".join(f"{count} {words[key]}" for key, count in counts.items() if count) or "none")
    weak = sum(few(row) for row in rows)
    if weak:
        head += f"; {weak} on fewer than {FEW} samples"
    if any(row["interval"] is not None for row in rows):
        head += "; in brackets: 95% intervals"
    lines = textwrap.wrap(head, WIDTH, subsequent_indent="  ")
    measured = [row for row in rows if row["value"] is not None]
    values = [number(row["value"], row["unit"]).replace("points", "pts") for row in measured]
    columns = ([row["status"] for row in measured], [row["name"] for row in measured], values)
    widths = [max(map(len, column), default=0) for column in columns]
    for row, value in zip(measured, values, strict=True):
        evidence = "" if row["count"] is None else f"{row['count']:,} {row['of']}"
        evidence += "" if row["interval"] is None else f" [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]"
        figure = f"  {row['status']:<{widths[0]}} {row['name']:<{widths[1]}} {value:>{widths[2]}}"
        text = f"{figure} limit {row['at_most']:<4g} {evidence}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (4 + widths[0]))
    for reason in dict.fromkeys(row["note"] for row in rows if row["value"] is None):
        names = ", ".join(row["name"] for row in rows if row["value"] is None and row["note"] == reason)
        text = f"  {NOT_MEASURED} {names}: {reason or 'the reason is unknown'}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return lines


def readability(results: Mapping[str, Any], hider: Hider) -> dict[str, Any] | None:
    """Make the section ``audit``: figures of attacks on the forgotten classes; None without an audit."""
    audit = results.get("audit")
    if audit is None:
        return None
    attacks = []
    for attack in audit.get("attacks", ()):
        name, rows = attack["name"], audit["rows"]
        erased, depth = rows["erased"][name], audit["depth"].get(name)
        retrained = [rows[row][name]["value"] for row in names_of("retrained", rows)]
        others = [value for value in retrained if value is not None]
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
    """Choose percentages of the forgotten classes of the original and the erased model: ``before_after`` of results.json and the
    record. The attack that decided the verdict comes before the others, which are sorted by what they still read above chance.
    Attacks that read no more than chance of the original are left out."""
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
    was, now = (rows.get(row, {}).get(metric["name"]) or {"value": None} for row in ("original", "erased"))
    if metric["unit"] != "percent" or None in (was["value"], now["value"]):
        return None
    described = {key: metric[key] for key in ("name", "title", "column", "of")}
    figures = {"before": was["value"], "after": now["value"], "interval": now["interval"], "count": now["count"]}
    return {**described, "attack": "reads" in metric, **figures, "chance": chance}
