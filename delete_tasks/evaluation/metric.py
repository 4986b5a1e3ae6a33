"""Metrics of a task, the figures that they measure on a row of the table, and the rows that an evaluation measures."""

import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import first_line
from ..fileio.processes import raise_lost
from .functional import Interval, wilson


class NotMeasured(Exception):
    """Error of a metric that cannot be measured on the data; the message says what is missing."""


@dataclass(frozen=True)
class Measured:
    """Figure of a metric.

    Attributes:
        value: The figure; None if it was not measured, and ``note`` says why.
        count: Number of samples that it rests on.
        interval: 95% confidence interval; None if the counts give none, and ``note`` says why.
        note: Remark for readers.
        of_class: Name of the class, if the figure is that of the worst of several.
        details: Further JSON values, e.g. a curve, for audit.json.
        samples: Figure of each sample, float64 ``(count,)``, whose mean is ``value``; in the same order for every model.
    """

    value: float | None = None
    count: int | None = None
    interval: Interval | None = None
    note: str | None = None
    of_class: str | None = None
    details: Mapping[str, Any] | None = field(default=None, compare=False)
    samples: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    def json(self) -> dict[str, Any]:
        """Return the content for results.json, and the details if there are any."""
        content = {name: getattr(self, name) for name in ("value", "count", "interval", "note", "of_class")}
        content["interval"] = None if self.interval is None else list(self.interval)
        return content if self.details is None else {**content, "details": dict(self.details)}


def share(value: float | None, count: int | None, **rest: Any) -> Measured:
    """Make the figure of a percentage of ``count`` independent samples, with Wilson's interval."""
    return Measured(value, count, wilson(value, count), **rest)


@dataclass(frozen=True)
class Row:
    """Data of a row of the table, which a metric reads.

    Attributes:
        data: :class:`delete_tasks.evaluation.predictions.Predictions` or
            :class:`delete_tasks.evaluation.predictions.LocationCounts` by the name of the data ('test', 'train', ...).
        original: Data of the original; None if the original is no longer available.
        ids: The forgotten classes.
        names: Names of all classes.
        expected: Classes that may take the place of the forgotten ones; empty if none were given.
        avoid: Classes that must not; empty if none were given.
    """

    data: Mapping[str, Any]
    original: Mapping[str, Any] | None
    ids: Sequence[int]
    names: Sequence[str]
    expected: Sequence[int] = ()
    avoid: Sequence[int] = ()


@dataclass(frozen=True)
class Metric:
    """Metric of a task; ``Task.metrics`` are in table, results.json, record, limits, ``record verify --rerun`` and ``compare``.

    Attributes:
        name: Short name, for results.json and ``--accept NAME=MOST``.
        title: Description, with the data it is measured on.
        unit: 'percent', 'points' or 'nats'.
        compute: Pure function of a row. If the data are not enough, it returns a :class:`Measured` without value or raises
            :class:`NotMeasured`.
        lower_is_better: False if higher is better.
        limit: Default upper limit of the record; None checks it only if the user sets a limit.
        of: Unit of ``count``, e.g. 'test images'.
        column: Header in tables; None for no column.
        detail: Show the column only with ``--wide``, or if no other was measured.
        role: 'forget' or 'retain' if it measures how much was forgotten or retained, for ``compare``; else None.
        relative: It compares a model with the original, and is not defined for the original.
        of_features: It depends on features and labels only, so rows with the same features share the figure.
        lacking: Reason why it is not measured if its data were not given; None for the reason of ``compute``.
        predicts: It measures how much the model itself predicts as the forgotten classes, or did when training ended.
        warns: An exceeded limit makes a verdict amber instead of red.
        reads: It reads the forgotten classes from the features, so that it counts for the verdict as an attack does.
        chance: Its figure for a model without information about these classes; None if unknown.
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
    predicts: bool = False
    warns: bool = False
    reads: bool = False
    chance: Callable[[Row], float | None] | None = None

    def measure(self, row: Row) -> Measured:
        """Measure a row; a figure without a value has the reason as its note."""
        if self.relative and row.original is None:
            return Measured(note="the original is no longer available")
        try:
            figure = self.compute(row)
        except NotMeasured as reason:
            figure = Measured(note=self.why(reason))
        if figure.value is not None and not math.isfinite(figure.value):
            return replace(figure, value=None, interval=None, note=f"{self.name} is {figure.value}, which is no number")
        if figure.value is not None or figure.note:
            return figure
        return replace(figure, note=self.lacking or "the data do not show it")

    def why(self, reason: NotMeasured) -> str:
        """Choose the reason in the task's words, if there is one."""
        return self.lacking or str(reason)

    def json(self) -> dict[str, Any]:
        """Return the declaration for results.json."""
        names = ("name", "title", "unit", "lower_is_better", "limit", "of", "column", "detail", "role", "relative")
        return {name: getattr(self, name) for name in names}


T = TypeVar("T")


class Evaluation:
    """Metrics of several models on the same data. A metric that fails is not measured, with the reason; the others are.

    Classes ``expected`` and to ``avoid`` may or must not take the place of the forgotten ones, ``ids``, see
    :func:`delete_tasks.evaluation.metrics.replaced_by`; ``names`` are those of all classes. ``not_measured`` are reasons by the
    name of a missing metric, row or picture; more are added while measuring.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        ids: Sequence[int],
        names: Sequence[str],
        not_measured: Mapping[str, str] | None = None,
        expected: Sequence[int] = (),
        avoid: Sequence[int] = (),
    ) -> None:
        self.metrics, self.ids, self.names = list(metrics), list(ids), list(names)
        self.rows: dict[str, dict[str, Measured]] = {}  # figures by row, in the order of addition, and metric
        self.data: dict[str, Mapping[str, Any]] = {}  # of each row
        self.not_measured = dict(not_measured or {})
        self.expected, self.avoid = list(expected), list(avoid)
        self.seconds, self._nested = 0.0, False  # time spent in attempt()

    def attempt(self, part: str, work: Callable[[], T]) -> T | None:
        """Return the result of ``work``; if it fails, note the reason and return None, since the model is already written."""
        begin, outermost, self._nested = time.monotonic(), not self._nested, True
        try:
            return work()
        except Exception as error:
            raise_lost(error)
            kind = "" if isinstance(error, NotMeasured) else f"{type(error).__name__}: "
            self.not_measured[part] = f"{kind}{first_line(error)}"
            return None
        finally:
            if outermost:
                self.seconds, self._nested = self.seconds + time.monotonic() - begin, False

    def add(self, name: str, data: Mapping[str, Any], known: Mapping[str, Measured] | None = None) -> None:
        """Measure a row, 'original' first, with which relative metrics compare. ``known`` figures, by metric, are taken over."""
        self.data[name], known = data, known or {}
        row = Row(data, self.data.get("original"), self.ids, self.names, self.expected, self.avoid)
        self.rows[name] = {metric.name: known.get(metric.name) or self._measure(metric, row) for metric in self.metrics}

    def _measure(self, metric: Metric, row: Row) -> Measured:
        if metric.name in self.not_measured:
            return Measured(note=self.not_measured[metric.name])
        if metric.of_features:
            features = _features(row.data)
            for name in self.data.keys() & self.rows.keys():
                others = _features(self.data[name])
                if len(others) == len(features) and all(map(operator.is_, others, features)):
                    return self.rows[name][metric.name]
        figure = self.attempt(metric.name, partial(metric.measure, row))
        return Measured(note=self.not_measured[metric.name]) if figure is None else figure


def _features(data: Mapping[str, Any]) -> list[Any]:
    return [getattr(predictions, "features", None) for predictions in data.values()]
