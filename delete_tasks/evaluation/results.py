"""results.json of every task, and the end of every command: what was done, measured, printed and recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ..checkpoint import save_json
from ..environment import code_version, environment, peak_memory_mb, plain
from ..errors import RequestError, require
from ..terminal import short
from .evaluation import Evaluation
from .functional import prediction_shares
from .metric import Measured
from .metrics import still_predicted_of
from .opened import Opened
from .table import notes, show_rows

FORMAT, VERSION = "delete-tasks results", 1
RESULTS = "results.json"
SCHEMA = Path(__file__).with_name("results.schema.json")


def train(runner: Any) -> bool:
    """The run; whether this process goes on, which the first does alone: the others' part ends here."""
    import torch
    from mmengine.dist import barrier, get_rank, is_distributed

    runner.train()
    if not is_distributed():
        return True
    barrier()
    rank = get_rank()
    torch.distributed.destroy_process_group()
    return rank == 0


def recipe_as_run(runner: Any) -> dict[str, Any]:
    """Every option of the recipe and of the method, as it was in the end, as JSON."""
    method, recipe = runner.method, runner.recipe
    return plain(
        {
            "type": type(method).__name__,
            **{key: value for key, value in runner._hook_config.items() if key != "type"},
            **{key: value for key, value in vars(method).items() if key in type(method).option_names()},
            **vars(recipe),
            "classes": [runner.class_names[i] for i in runner.forget_ids],
            "batch_size": recipe.batch_size or getattr(runner.train_dataloader, "batch_size", None),
            "accumulation": runner.accumulation,
            "steps_done": runner.iter // runner.accumulation,
            "seed": runner.seed,
        }
    )


def collect(
    runner: Any,
    evaluation: Evaluation,
    *,
    data: Mapping[str, Any],
    measured_on: str | None,
    predicted_as: Any = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What results.json holds of a finished run; results.schema.json describes it.

    Args:
        runner: After training.
        evaluation: With the rows that could be measured; those of the original and the erased model are added if they are not
            there.
        data: What was read, in words, by what it is for.
        measured_on: What the figures are of, in words; runs with another one do not compare. None where nothing was given.
        predicted_as: int64 ``(C,)``, how many forgotten samples or locations the erased model predicts as each class.
        details: What only the task knows, as JSON.
    """
    for name in ("original", "erased"):
        reasons = [evaluation.not_measured[part] for part in (name, "rows") if part in evaluation.not_measured]
        lacking = Measured(note=next(iter(reasons), "it was not asked for"))
        evaluation.rows.setdefault(name, {metric.name: lacking for metric in evaluation.metrics})
    if any(metric.name == "still_predicted" for metric in evaluation.metrics):
        evaluation.rows["erased"]["still_predicted"] = still_predicted_of(runner.forget_check)
    run = runner.seconds
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": runner.task.name,
        "forgotten": [runner.class_names[i] for i in runner.forget_ids],
        "metrics": [metric.json() for metric in evaluation.metrics],
        "rows": {
            name: {metric: Measured.json(found) for metric, found in row.items()}
            for name, row in evaluation.rows.items()
        },
        "not_measured": evaluation.not_measured,
        "expected": [runner.class_names[i] for i in evaluation.expected],
        "prediction_shares": None if predicted_as is None else prediction_shares(predicted_as, runner.class_names),
        "data": plain(data),
        "measured_on": measured_on,
        "recipe": recipe_as_run(runner),
        "steps": runner.iter // runner.accumulation,
        "seconds": {**run, "evaluating": round(evaluation.seconds, 1)},
        "forget_set": runner.forget_info,
        "retain_set": runner.retain_info,
        "public_data": runner.public_info,
        "forget_check": runner.forget_check,
        "finished": runner.finished,
        "withheld": runner.withheld,
        "published": runner.published is not None,
        "code": code_version(),
        "environment": environment(next(runner.unwrapped_model.parameters()).device),
        "peak_memory_mb": peak_memory_mb(),
        "details": plain(details or {}),
    }


def read_results(path: Path) -> dict[str, Any]:
    """A results.json, which may be somebody else's.

    Raises:
        RequestError: It is not there, or not what :func:`collect` makes.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise RequestError(
            f"no results at '{path}' ({error.strerror}); give work dirs of finished runs, which hold a {RESULTS}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"'{path}' is no JSON ({error}); run its command again") from error
    if not isinstance(results, dict) or (results.get("format"), results.get("version")) != (FORMAT, VERSION):
        raise RequestError(
            f"'{path}' holds no results of a run as this version writes them (format '{FORMAT}', version {VERSION}); give work "
            "dirs in which a model forgot something, or run the command again"
        )
    jsonschema = require("jsonschema", "record")
    wrong = next(jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(results), None)
    if wrong is not None:
        raise RequestError(f"'{path}': {wrong.json_path}: {wrong.message[:200]}. Run its command again")
    return results


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")


def report(
    runner: Any,
    evaluation: Evaluation,
    results: dict[str, Any],
    opened: Opened,
    console: Console,
    *,
    title: str,
    wide: bool = False,
    picture: tuple[str, Callable[[Path], Any], str] | None = None,
    lines: Callable[[dict[str, Any]], Sequence[str]] = lambda results: (),
    record: Mapping[str, Any] | None = None,
    attacked: Callable[[], Mapping[str, Mapping[str, Any]]] | None = None,
) -> dict[str, Any]:
    """End a command: draw its picture, write results.json, print the table, write the record. ``opened`` is what was measured.
    ``picture`` is the name of a file in the work dir, what draws it, and its caption. ``lines`` gives what the task says beside
    the table: it gets ``results`` when they and the picture are written, and may add to their details. ``record`` are options of
    the record; None takes those of the runner's config. ``attacked`` reads what the audit attacks, if the table's own data are
    none of that, see :func:`delete_tasks.audit.in_run.audit_run`.

    Returns:
        ``results``, with the command's ``exit_status``.
    """
    from mmengine.dist import get_rank

    from ..audit.in_run import audit_run
    from ..record import write_record

    if get_rank() != 0:
        return results | {"exit_status": 0}
    folder, begin = Path(runner.work_dir), time.monotonic()
    written, pictures = [runner.published, folder / RESULTS], []
    if picture is not None:
        name, draw, caption = picture
        pictures.append((str(folder / name), caption))
        evaluation.attempt(name, partial(draw, folder / name))
        if name not in evaluation.not_measured and (folder / name).is_file():
            written.append(folder / name)
    results["seconds"]["evaluating"] = round(results["seconds"]["evaluating"] + time.monotonic() - begin, 1)
    begin, options = time.monotonic(), record or runner.cfg.get("record") or {}
    level, advice = options.get("audit", "quick"), runner.task.audit_advice
    results["audit"] = audit_run(evaluation, level, folder, advice, attacked)
    if results["audit"] is not None:
        results["seconds"]["audit"] = round(time.monotonic() - begin, 1)
        written += [folder / name for name in results["audit"]["pictures"]]
    save_json(results, folder / RESULTS)
    told = lines(results)
    save_json(results, folder / RESULTS)
    show_rows(console, title, results, wide)
    for line in [*told, *notes(results)]:
        console.print(Text(line))
    if runner.withheld is not None:
        console.print(Text(f"The model is NOT written: {runner.withheld}."))
    console.print(Text(f"Written: {', '.join(short(path) for path in written if path)}"))
    return results | {"exit_status": write_record(runner, results, opened, record, pictures).exit_status}


def refuse_unmeasured(runner: Any, evaluation: Evaluation) -> None:
    """Raise RequestError where a finished run, of which all is written, could not be measured at all."""
    if "rows" in evaluation.not_measured:
        reason = evaluation.not_measured["rows"]
        raise RequestError(f"the run is over ({runner.published}), but it could not be measured: {reason}")
