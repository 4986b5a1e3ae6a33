"""A metric of a task: declared once, and measured on a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .intervals import Interval, wilson


class NotMeasured(Exception):
    """Error of a figure that the data do not allow; the message says what is missing."""


@dataclass(frozen=True)
class Measured:
    """A figure and what it rests on.

    Attributes:
        value: None was not measured; ``note`` says why.
        count: How many samples it rests on.
        interval: 95%; None where the counts do not tell one, and ``note`` says why.
        note: In words.
        of_class: The class that the figure is of, where it is the worst of several.
    """

    value: float | None = None
    count: int | None = None
    interval: Interval | None = None
    note: str | None = None
    of_class: str | None = None

    def json(self) -> dict[str, Any]:
        """Return the content for results.json."""
        found = {one.name: getattr(self, one.name) for one in fields(Measured)}
        return {**found, "interval": None if self.interval is None else list(self.interval)}

    @classmethod
    def read(cls, content: Mapping[str, Any] | None) -> Measured:
        """From results.json."""
        return cls() if content is None else cls(**content)


def share(value: float | None, count: int | None, **rest: Any) -> Measured:
    """Measure a percentage of ``count`` independent samples, with Wilson's interval."""
    return Measured(value, count, wilson(value, count), **rest)


@dataclass(frozen=True)
class Row:
    """Data that a row of the table is measured from.

    Attributes:
        data: By the name of the data ('test', 'train', ...): :class:`delete_tasks.evaluation.predictions.Predictions` or
            :class:`delete_tasks.evaluation.predictions.LocationCounts`. What is not there was not given.
        original: The same of the original model; None where that is not there any more.
        ids: The forgotten classes.
        names: Of all classes.
        expected: The classes that may take the forgotten ones' place; none where nobody said.
    """

    data: Mapping[str, Any]
    original: Mapping[str, Any] | None
    ids: Sequence[int]
    names: Sequence[str]
    expected: Sequence[int] = ()


@dataclass(frozen=True)
class Metric:
    """A figure that a task measures of a model. Adding one to ``Task.metrics`` is enough: table, results.json, record, limits,
    ``record verify --rerun`` and ``compare`` take it from there.

    Attributes:
        name: Short, for results.json and ``--accept NAME=MOST``.
        title: In words, with the data it is measured on.
        unit: 'percent', 'points' or 'nats'.
        compute: A pure function of a row; a :class:`Measured` without value, or :class:`NotMeasured`, where the data do not tell.
        lower_is_better: Else the higher, the better.
        limit: Default of the record, at most; None holds it against nothing unless the user sets one.
        of: What ``count`` counts, e.g. 'test images'.
        column: Header in tables; None: no column.
        detail: The column is shown with ``--wide`` alone, or where nothing else was measured.
        role: 'forget' or 'retain' where it says how much was forgotten or kept: what ``compare`` draws and prints.
        relative: It compares with the original, of which it says nothing itself.
        of_features: It depends on features and labels alone: rows that share them share it.
        lacking: Why it is not measured where its data are not given; None: what ``compute`` says.
    """

    name: str
    title: str
    unit: str
    compute: Callable[[Row], Measured]
    lower_is_better: bool = True
    limit: float | None = None
    of: str = "samples"
    column: str | None = None
    detail: bool = False
    role: str | None = None
    relative: bool = False
    of_features: bool = False
    lacking: str | None = None

    def measure(self, row: Row) -> Measured:
        """Measure a row; if it has no figure, the reason is the note."""
        if self.relative and row.original is None:
            return Measured(note="the original is not there any more")
        try:
            found = self.compute(row)
        except NotMeasured as reason:
            return Measured(note=self.why(reason))
        if found.value is not None or found.note:
            return found
        return replace(found, note=self.lacking or "the data do not show it")

    def why(self, reason: NotMeasured) -> str:
        """Why it is not measured, in the task's own words where it has them."""
        return self.lacking or str(reason)

    def json(self) -> dict[str, Any]:
        """Return the declaration for results.json."""
        shown = ("name", "title", "unit", "lower_is_better", "limit", "of", "column", "detail", "role", "relative")
        return {name: getattr(self, name) for name in shown}
