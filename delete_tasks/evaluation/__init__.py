"""Evaluation of models before and after a run, shared by all tasks.

A task declares a list of :class:`Metric`. A command collects :class:`Predictions` (or, if a sample has many locations,
:class:`LocationCounts`) of the original and of the erased model. :func:`.predictions.head_rows` adds the rows that differ in the
last layer only, :class:`Evaluation` measures each row, and :func:`delete_tasks.report.finish.report` writes results.json, prints
the table and writes the record. All of them, limits, ``record verify --rerun`` and ``compare`` follow the list of metrics.
"""

from .metric import Evaluation, Measured, Metric, Row
from .predictions import ConfusionState, LocationCounts, Predictions

__all__ = ["ConfusionState", "Evaluation", "LocationCounts", "Measured", "Metric", "Predictions", "Row"]
