"""results.json of every task: settings and figures of a run; results.csv: the figures alone."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RequestError, require
from ..evaluation.functional import prediction_shares
from ..evaluation.metric import Evaluation, Measured
from ..evaluation.metrics import still_predicted_of
from ..fileio.environment import code_version, environment, peak_memory_mb, plain
from ..fileio.validate import read_json
from ..task import Run

FORMAT, VERSION = "delete-tasks results", 1
RESULTS, FIGURES = "results.json", "results.csv"
SCHEMA = Path(__file__).with_name("results.schema.json")


def collect(
    runner: Run,
    evaluation: Evaluation,
    *,
    data: Mapping[str, Any],
    measured_on: str | None,
    predicted_as: Any = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect the content of results.json for a finished run; results.schema.json describes it. ``evaluation`` gets the rows of
    the original and the erased model that could not be measured. ``data`` are data strings by purpose, ``measured_on`` describes
    the test data (only runs with the same compare; None: no test data), ``predicted_as`` int64 ``(C,)`` counts forgotten samples
    or locations by the erased model's class, ``details`` are JSON of the task."""
    rows = evaluation.rows
    for name in ("original", "erased"):
        reason = evaluation.not_measured.get(name, evaluation.not_measured.get("rows", "it was not requested"))
        rows.setdefault(name, {metric.name: Measured(note=reason) for metric in evaluation.metrics})
    if "still_predicted" in rows["erased"]:
        rows["erased"]["still_predicted"] = still_predicted_of(runner.outcome.forget_check)
    outcome, selection, account = runner.outcome, runner.selection, runner.account()
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": runner.task.name,
        "forgotten": [selection.class_names[i] for i in selection.forget_ids],
        "metrics": [metric.json() for metric in evaluation.metrics],
        # Without the details of an attack's figure, which are in the audit.
        "rows": {
            name: {key: replace(each, details=None).json() for key, each in row.items()} for name, row in rows.items()
        },
        "not_measured": evaluation.not_measured,
        "expected": [selection.class_names[i] for i in evaluation.expected],
        "prediction_shares": None if predicted_as is None else prediction_shares(predicted_as, selection.class_names),
        "data": plain(data),
        "measured_on": measured_on,
        **account,
        "seconds": {**account["seconds"], "evaluating": round(evaluation.seconds, 1)},
        "published": outcome.published is not None,
        "code": code_version(),
        "environment": environment(next(runner.unwrapped_model.parameters()).device),
        "peak_memory_mb": peak_memory_mb(),
        "details": plain(details or {}),
    }


def to_csv(results: Mapping[str, Any]) -> str:
    """Render the figures of results.json, one line per model and metric; ``low`` and ``high`` are the 95% interval."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "metric", "unit", "value", "low", "high", "count"])
    for row, figures in results["rows"].items():
        for metric in results["metrics"]:
            figure = figures[metric["name"]]
            ends = figure["interval"] or (None, None)
            writer.writerow([row, metric["name"], metric["unit"], figure["value"], *ends, figure["count"]])
    return out.getvalue()


def read_results(path: Path) -> dict[str, Any]:
    """Read a results.json, an untrusted file; raise :class:`RequestError` if it is missing or not made by :func:`collect`."""
    try:
        results = read_json(path)
    except OSError as error:
        advice = f"give work dirs of finished runs with a {RESULTS}"
        raise RequestError(f"no results at '{path}' ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise RequestError(f"'{path}' is no JSON ({error}); run its command again") from error
    if not isinstance(results, dict) or (results.get("format"), results.get("version")) != (FORMAT, VERSION):
        wrong = f"holds no results of a run in this version's format ('{FORMAT}', version {VERSION})"
        raise RequestError(f"'{path}' {wrong}; give other work dirs, or run the command again")
    check_schema(results, path)
    return results


def check_schema(content: Any, path: Path, keys: Sequence[str] | None = None) -> None:
    """Raise RequestError unless ``content``, of the file ``path``, follows the schema of results.json, or of its ``keys``."""
    jsonschema, schema = require("jsonschema", "record"), json.loads(SCHEMA.read_text())
    if keys is not None:
        schema |= {"required": [*keys], "properties": {key: schema["properties"][key] for key in keys}}
    wrong = next(jsonschema.Draft202012Validator(schema).iter_errors(content), None)
    if wrong is not None:
        raise RequestError(f"'{path}': {wrong.json_path}: {wrong.message[:200]}. Run its command again")
