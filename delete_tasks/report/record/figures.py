"""Figures against their limits: rows of the record, the verdict, and what the terminal says of both."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RequestError
from ...evaluation.metric import Measured, Metric
from .parts import FAIL, NOT_MEASURED, PASS
from .readability import is_hidden, is_measured

FEW = 20  # samples; a limit that holds on fewer is shown with their number
LIMIT_EXCEEDED, NOT_PUBLISHED = 3, 4  # exit statuses; the first with --fail-on-limit alone
WIDTH = 80


@dataclass(frozen=True)
class Verdict:
    """What a run comes to.

    Attributes:
        status: FAIL where a limit is exceeded, nothing was published, or the classes are hidden and not forgotten; NOT MEASURED
            where any figure was not, or none is there; else PASS.
        rows: As ``figures`` of the record.
        withheld: Why no erased model was published; None where one was.
        record: Path of record.json; None where none was wanted.
        fail_on_limit: As the user asked.
        audit: The audit's word, see :mod:`delete_tasks.audit.depth`; None where no audit ran.
    """

    status: str
    rows: Sequence[Mapping[str, Any]]
    withheld: str | None
    record: Path | None = None
    fail_on_limit: bool = False
    audit: str | None = None

    @property
    def exit_status(self) -> int:
        """4 where no model was published; 3 with ``--fail-on-limit`` where the verdict is FAIL, or a limit of the user's own was
        held against nothing; else 0."""
        if self.withheld is not None:
            return NOT_PUBLISHED
        unheld = any(row["status"] == NOT_MEASURED and row["limit_set_by"] == "user" for row in self.rows)
        return LIMIT_EXCEEDED if self.fail_on_limit and (self.status == FAIL or unheld) else 0


def rows_of(
    metrics: Sequence[Metric],
    original: Mapping[str, Measured],
    erased: Mapping[str, Measured],
    accept: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Hold each metric that has a limit, and of which less is better, against it. ``original`` and ``erased`` are figures by
    name, ``accept`` the user's own limits."""
    metrics = [metric for metric in metrics if metric.lower_is_better]
    known = ", ".join(metric.name for metric in metrics)
    rows = []
    for metric in metrics:
        limit = accept.get(metric.name, metric.limit)
        if limit is None:
            continue
        before = Measured() if metric.relative else original.get(metric.name, Measured())
        now = erased.get(metric.name, Measured(note="it was not measured"))
        rows.append(_row(metric, before, now, limit, metric.name in accept))
    for name in accept:
        if name not in {metric.name for metric in metrics}:
            # A limit that nothing was held against must be seen, and a finished run must not fail for it.
            unknown = Metric(name, f"'{name}'", "percent", lambda _: Measured())
            why = Measured(note=f"no figure has this name; there are: {known}")
            rows.append(_row(unknown, Measured(), why, accept[name], True))
    return rows


def _row(metric: Metric, original: Measured, erased: Measured, limit: float, by_user: bool) -> dict[str, Any]:
    passed = erased.value is not None and erased.value <= limit
    return {
        "name": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "original": original.value,
        "original_interval": None if original.interval is None else list(original.interval),
        "value": erased.value,
        "interval": None if erased.interval is None else list(erased.interval),
        "count": erased.count,
        "of": metric.of,
        "note": erased.note,
        "at_most": limit,
        "limit_set_by": "user" if by_user else "default",
        "status": NOT_MEASURED if erased.value is None else PASS if passed else FAIL,
    }


def status_of(rows: Sequence[Mapping[str, Any]], withheld: str | None, audit: str | None = None) -> str:
    """FAIL, NOT MEASURED or PASS, see :class:`Verdict`."""
    found = {row["status"] for row in rows}
    if withheld is not None or FAIL in found or is_hidden(audit):
        return FAIL
    return NOT_MEASURED if not rows or NOT_MEASURED in found else PASS


def check_names(accept: Mapping[str, float], metrics: Sequence[Metric]) -> None:
    """Refuse a limit that no figure of the task would be held against.

    Raises:
        RequestError: It names the closest figure, and all there are.
    """
    known = [metric.name for metric in metrics if metric.lower_is_better]
    for name in accept:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" did you mean '{close[0]}'?" if close else ""
            raise RequestError(f"--accept names '{name}', which is no figure;{hint} There are: {', '.join(known)}")


def few(row: Mapping[str, Any]) -> bool:
    """Whether a limit held, but on so few samples that it says little."""
    return row["status"] == PASS and row["count"] is not None and row["count"] < FEW


def number(value: float | None, unit: str = "") -> str:
    """A figure with its unit, or NOT MEASURED."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.2f}{'%' if unit == 'percent' else f' {unit}' if unit else ''}"


def lines_of(verdict: Verdict) -> list[str]:
    """What the terminal says: the verdict, and a line for each limit, 80 columns wide at most."""
    worst = [row for row in verdict.rows if row["status"] == FAIL]
    open_ones = [row for row in verdict.rows if row["status"] == NOT_MEASURED]
    if verdict.withheld is not None:
        head = f"Limits: FAIL, no erased model was written: {verdict.withheld}"
    elif worst:
        head = f"Limits: FAIL, {len(worst)} of {len(verdict.rows)} exceeded"
        head += ", and hidden, not forgotten" if is_hidden(verdict.audit) else ""
    elif is_hidden(verdict.audit):
        head = "Limits: FAIL, hidden, not forgotten: attacks read as much as before"
    elif open_ones or not verdict.rows:
        head = f"Limits: NOT MEASURED, {len(open_ones)} of {len(verdict.rows)} figures"
    else:
        head = f"Limits: PASS, all {len(verdict.rows)} hold"
    if not is_measured(verdict.audit):
        head += "; readability not measured"
    weak = sum(few(row) for row in verdict.rows)
    if weak:
        head += f"; {weak} of them on fewer than {FEW} samples"
    if any(row["interval"] is not None for row in verdict.rows):
        head += "; in brackets: 95% intervals"
    lines = textwrap.wrap(head, WIDTH, subsequent_indent="  ")
    cells = [
        (
            row["status"],
            row["name"],
            "" if row["value"] is None else number(row["value"], row["unit"]).replace("points", "pts"),
        )
        for row in verdict.rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row, (status, name, value) in zip(verdict.rows, cells, strict=True):
        begin = f"  {status:<{widths[0]}} {name:<{widths[1]}} {value:>{widths[2]}}"
        text = f"{begin} limit {row['at_most']:<4g} {_evidence(row)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (4 + widths[0]))
    return lines


def _evidence(row: Mapping[str, Any]) -> str:
    """On how much a figure rests, and its interval; or why it was not measured."""
    if row["value"] is None:
        return row["note"] or ""
    counted = "" if row["count"] is None else f"{row['count']:,} {row['of']}"
    interval = "" if row["interval"] is None else f" [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]"
    return f"{counted}{interval}"
