"""Figures and their limits: entries of the record, and the verdict in the terminal."""

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...audit.depth import HIDDEN, UNKNOWN
from ...errors import RequestError
from ...evaluation.metric import Measured, Metric
from .parts import FAIL, NOT_MEASURED, PASS

FEW = 20  # samples; a limit that holds on fewer is shown with their number
LIMIT_EXCEEDED, NOT_PUBLISHED = 3, 4  # exit statuses; the first only with --fail-on-limit
WIDTH = 80


@dataclass(frozen=True)
class Verdict:
    """Verdict on a run.

    Attributes:
        rows: ``figures`` of the record.
        withheld: Reason why no erased model was published; None if one was.
        fail_on_limit: Option ``--fail-on-limit``.
        audit: Word of the audit, see :mod:`delete_tasks.audit.depth`; None without an audit.
    """

    rows: Sequence[Mapping[str, Any]]
    withheld: str | None
    fail_on_limit: bool = False
    audit: str | None = None

    @property
    def status(self) -> str:
        """FAIL if a limit is exceeded, no model was published, or the classes are hidden and not forgotten; else NOT MEASURED if
        a figure was not measured or there is none; else PASS."""
        statuses = {row["status"] for row in self.rows}
        if self.withheld is not None or FAIL in statuses or self.audit == HIDDEN:
            return FAIL
        return NOT_MEASURED if not statuses or NOT_MEASURED in statuses else PASS

    @property
    def exit_status(self) -> int:
        """Exit status: 4 if no model was published; 3 with ``--fail-on-limit`` if the verdict is FAIL, or a figure with a limit
        of the user was not measured; else 0."""
        if self.withheld is not None:
            return NOT_PUBLISHED
        unmeasured = any(row["status"] == NOT_MEASURED and row["limit_set_by"] == "user" for row in self.rows)
        return LIMIT_EXCEEDED if self.fail_on_limit and (self.status == FAIL or unmeasured) else 0


def rows_of(
    metrics: Sequence[Metric],
    original: Mapping[str, Measured],
    erased: Mapping[str, Measured],
    accept: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Compare figures by name with limits, set by the user (``accept``) or by default, of metrics for which less is better."""
    metrics = [metric for metric in metrics if metric.lower_is_better]
    names = [metric.name for metric in metrics]
    rows = []
    for metric in metrics:
        limit = accept.get(metric.name, metric.limit)
        if limit is None:
            continue
        before = Measured() if metric.relative else original.get(metric.name, Measured())
        now = erased.get(metric.name, Measured(note="it was not measured"))
        rows.append(_row(metric, before, now, limit, metric.name in accept))
    for name in accept:
        if name not in names:  # report it without failing a finished run
            unknown = Metric(name, f"'{name}'", "percent", lambda _: Measured())
            reason = Measured(note=f"no figure has this name; there are: {', '.join(names)}")
            rows.append(_row(unknown, Measured(), reason, accept[name], True))
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


def lines_of(verdict: Verdict) -> list[str]:
    """Format the verdict and a line for each limit for the terminal, at most 80 columns wide."""
    failed = sum(row["status"] == FAIL for row in verdict.rows)
    unmeasured = sum(row["status"] == NOT_MEASURED for row in verdict.rows)
    if verdict.withheld is not None:
        head = f"Limits: FAIL, no erased model was written: {verdict.withheld}"
    elif failed:
        head = f"Limits: FAIL, {failed} of {len(verdict.rows)} exceeded"
        head += ", and hidden, not forgotten" if verdict.audit == HIDDEN else ""
    elif verdict.audit == HIDDEN:
        head = "Limits: FAIL, hidden, not forgotten: the class can still be read from the features"
    elif unmeasured or not verdict.rows:
        head = f"Limits: NOT MEASURED, {unmeasured} of {len(verdict.rows)} figures"
    else:
        head = f"Limits: PASS, all {len(verdict.rows)} hold"
    if verdict.audit in (None, UNKNOWN):
        head += "; readability not measured"
    weak = sum(few(row) for row in verdict.rows)
    if weak:
        head += f"; {weak} on fewer than {FEW} samples"
    if any(row["interval"] is not None for row in verdict.rows):
        head += "; in brackets: 95% intervals"
    lines = textwrap.wrap(head, WIDTH, subsequent_indent="  ")
    values = [number(row["value"], row["unit"]).replace("points", "pts") for row in verdict.rows]
    values = ["" if value == NOT_MEASURED else value for value in values]
    columns = ([row["status"] for row in verdict.rows], [row["name"] for row in verdict.rows], values)
    widths = [max(map(len, column), default=0) for column in columns]
    for row, value in zip(verdict.rows, values, strict=True):
        if row["value"] is None:
            evidence = row["note"] or ""
        else:
            evidence = "" if row["count"] is None else f"{row['count']:,} {row['of']}"
            evidence += "" if row["interval"] is None else f" [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]"
        figure = f"  {row['status']:<{widths[0]}} {row['name']:<{widths[1]}} {value:>{widths[2]}}"
        text = f"{figure} limit {row['at_most']:<4g} {evidence}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (4 + widths[0]))
    return lines
