"""Figures and their limits: entries of the record, lines in the terminal, and the exit status."""

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ...audit.verdict import FAIL, NOT_MEASURED, PASS, RED, STATUSES, UNCERTAIN
from ...errors import RequestError
from ...evaluation.metric import Measured, Metric

FEW = 20  # samples; a limit that holds on fewer is shown with their number
LIMIT_EXCEEDED, NOT_PUBLISHED = 3, 4  # exit statuses; the first only with --fail-on-limit
WIDTH = 80


def exit_status(verdict: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], withheld: str | None, fail: bool) -> int:
    """Return the exit status of a command: 4 if no model was published; 3 with ``--fail-on-limit`` (``fail``) if the verdict's
    level is red, or a limit of the user does not hold for certain; else 0."""
    if withheld is not None:
        return NOT_PUBLISHED
    unmet = any(row["status"] != PASS and row["limit_set_by"] == "user" for row in rows)
    return LIMIT_EXCEEDED if fail and (verdict["level"] == RED or unmet) else 0


def rows_of(
    metrics: Sequence[Metric], rows: Mapping[str, Mapping[str, Any]], accept: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Compare figures of results.json, in its ``rows``, with limits, set by the user (``accept``) or by default, of metrics for
    which less is better: ``limits`` of results.json."""
    metrics = [metric for metric in metrics if metric.lower_is_better]
    names = [metric.name for metric in metrics]
    nothing, limits = Measured().json(), []
    for metric in metrics:
        limit = accept.get(metric.name, metric.limit)
        if limit is not None:
            before = None if metric.relative else rows["original"].get(metric.name)
            now = rows["erased"].get(metric.name) or {**nothing, "note": "it was not measured"}
            limits.append(_row(metric, before or nothing, now, limit, metric.name in accept))
    for name in accept:
        if name not in names:  # report it without failing a finished run
            unknown = Metric(name, f"'{name}'", "percent", lambda _: Measured())
            reason = {**nothing, "note": f"no figure has this name; there are: {', '.join(names)}"}
            limits.append(_row(unknown, nothing, reason, accept[name], True))
    return limits


def _row(
    metric: Metric, original: Mapping[str, Any], erased: Mapping[str, Any], limit: float, by_user: bool
) -> dict[str, Any]:
    low, high = erased["interval"] or (erased["value"], erased["value"])
    status = NOT_MEASURED if erased["value"] is None else PASS if high <= limit else FAIL if low > limit else UNCERTAIN
    return {
        "name": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "original": original["value"],
        "original_interval": original["interval"],
        **{key: erased[key] for key in ("value", "interval", "count")},
        "of": metric.of,
        "note": erased["note"],
        "at_most": limit,
        "warns": metric.warns,
        "limit_set_by": "user" if by_user else "default",
        "status": status,
    }


def check_names(accept: Mapping[str, float], metrics: Sequence[Metric]) -> None:
    """Refuse limits for unknown figures by a :class:`RequestError` that lists the task's figures."""
    names = [metric.name for metric in metrics if metric.lower_is_better]
    for name in accept:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise RequestError(f"--accept names '{name}', which is no figure.{hint} There are: {', '.join(names)}")


def few(row: Mapping[str, Any]) -> bool:
    """Return True if a limit holds on few samples."""
    return row["status"] == PASS and row["count"] is not None and row["count"] < FEW


def number(value: float | None, unit: str = "") -> str:
    """Format a figure with its unit, or NOT MEASURED."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.2f}{'%' if unit == 'percent' else f' {unit}' if unit else ''}"


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the limits for the terminal, at most 80 columns wide: their number by status, a line for each that was measured, and
    one for each reason why others were not."""
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
    reasons = dict.fromkeys(row["note"] for row in rows if row["value"] is None)
    values = [number(row["value"], row["unit"]).replace("points", "pts") for row in measured]
    columns = ([row["status"] for row in measured], [row["name"] for row in measured], values)
    widths = [max(map(len, column), default=0) for column in columns]
    for row, value in zip(measured, values, strict=True):
        evidence = "" if row["count"] is None else f"{row['count']:,} {row['of']}"
        evidence += "" if row["interval"] is None else f" [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]"
        figure = f"  {row['status']:<{widths[0]}} {row['name']:<{widths[1]}} {value:>{widths[2]}}"
        text = f"{figure} limit {row['at_most']:<4g} {evidence}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (4 + widths[0]))
    for reason in reasons:
        names = ", ".join(row["name"] for row in rows if row["value"] is None and row["note"] == reason)
        text = f"  {NOT_MEASURED} {names}: {reason or 'the reason is unknown'}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return lines
