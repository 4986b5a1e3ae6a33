"""Evaluation of the rows of a table."""

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ..errors import first_line
from ..fileio.processes import raise_lost
from .metric import Measured, Metric, Row

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
            self.not_measured[part] = f"{type(error).__name__}: {first_line(error)}"
            return None
        finally:
            if outermost:
                self.seconds, self._nested = self.seconds + time.monotonic() - begin, False

    def add(self, name: str, data: Mapping[str, Any], known: Mapping[str, Measured] | None = None) -> None:
        """Measure a row. Relative metrics compare with the row 'original', which is added first. ``known`` are figures by metric
        that have been measured before."""
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
