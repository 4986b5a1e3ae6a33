"""The rows of a table, measured as they come."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ..fileio.processes import raise_lost
from .metric import Measured, Metric, Row

T = TypeVar("T")


class Evaluation:
    """Metrics of models on the same data. What fails is not measured, with the reason, and costs nothing else. The
    ``not_measured`` that it is given says why a metric will not be, by its name; ``expected`` are the classes that may take the
    place of the forgotten ones, as :func:`delete_tasks.evaluation.metrics.unexpected` measures.

    Attributes:
        rows: By name, in the order in which they were added; each a figure for every metric, by its name.
        not_measured: Reasons by what is missing: a metric, a row, a picture; added to while measuring.
        seconds: Spent in :meth:`attempt`.
        data: What each row was measured from.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        ids: Sequence[int],
        names: Sequence[str],
        not_measured: Mapping[str, str] | None = None,
        expected: Sequence[int] = (),
    ) -> None:
        self.metrics, self.ids, self.names = list(metrics), list(ids), list(names)
        self.rows: dict[str, dict[str, Measured]] = {}
        self.data: dict[str, Mapping[str, Any]] = {}
        self.not_measured = dict(not_measured or {})
        self.expected = list(expected)
        self.seconds, self._nested = 0.0, False
        self._original: Mapping[str, Any] | None = None
        self._of_features: dict[Any, tuple[Any, Measured]] = {}

    def attempt(self, part: str, work: Callable[[], T]) -> T | None:
        """Return what ``work`` returns; if it fails, None, and note the reason: the model is written already, and stays."""
        begin, outermost, self._nested = time.monotonic(), not self._nested, True
        try:
            return work()
        except Exception as error:
            raise_lost(error)
            first = str(error).strip().splitlines()
            self.not_measured[part] = f"{type(error).__name__}: {first[0] if first else 'no message'}"
            return None
        finally:
            if outermost:
                self.seconds, self._nested = self.seconds + time.monotonic() - begin, False

    def add(self, name: str, data: Mapping[str, Any], known: Mapping[str, Measured] | None = None) -> None:
        """Measure a row; the one of the name 'original' is what relative metrics compare with, and comes first. ``known`` are
        figures by metric that need not be measured."""
        if name == "original":
            self._original = data
        self.data[name] = data
        row = Row(data, self._original, self.ids, self.names, self.expected)
        self.rows[name] = {
            metric.name: (known or {}).get(metric.name) or self._measure(metric, row) for metric in self.metrics
        }

    def _measure(self, metric: Metric, row: Row) -> Measured:
        if metric.name in self.not_measured:
            return Measured(note=self.not_measured[metric.name])
        key, features = None, tuple[Any, ...]()
        if metric.of_features:
            features = tuple(getattr(given, "features", None) for given in row.data.values())
            key = (metric.name, *map(id, features))
            if key in self._of_features:
                return self._of_features[key][1]
        found = self.attempt(metric.name, partial(metric.measure, row))
        if found is None:
            return Measured(note=self.not_measured[metric.name])
        if key is not None:
            self._of_features[key] = (features, found)  # with the features, whose address nothing else may take
        return found
