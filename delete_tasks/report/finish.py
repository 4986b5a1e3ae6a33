"""Begin and end of a command's output: what it will do; results.json, table, sentences and record; what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ..display.table import Column, Table, row_title
from ..display.terminal import announce, short
from ..errors import RequestError
from ..fileio.atomic import save_json
from ..fileio.processes import process_rank

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.opened import Opened
    from ..runner.unlearn_runner import UnlearnRunner


def tell_before(
    console: Console, args: SimpleNamespace, names: Sequence[str], model: Any, data: Any, recipe: Mapping[str, Any]
) -> None:
    """Print in two lines what a run will do, and in a third what ``--resume`` found. ``recipe`` may hold ``type``, ``steps`` and
    ``batch_size``."""
    if process_rank() > 0:
        return
    how = [str(recipe.get("type", "DELETE"))]
    if recipe.get("steps"):
        each = f" of {recipe['batch_size']} samples" if recipe.get("batch_size") else ""
        how.append(f"at most {recipe['steps']} steps{each}")
    who = ", ".join(map(str, names)) or "the classes of the config"
    lines = [
        f"Unlearning {who} from {model} ({', '.join(how)}).",
        f"Reads {data}; writes to {args.work_dir} (log: run.log).",
    ]
    announce(console, lines + resuming(args))


def tell_training(console: Console, args: SimpleNamespace, what: str) -> None:
    """Print in a line what a training run will do, and in another what ``--resume`` found."""
    if process_rank() == 0:
        without = f" without {', '.join(map(str, args.without))}" if args.without else ""
        line = (
            f"Trains {what} for {args.epochs} epochs on {args.data}{without}; writes to {args.work_dir} (log: run.log)."
        )
        announce(console, [line, *resuming(args)])


def resuming(args: SimpleNamespace) -> list[str]:
    """Say in a line what ``--resume`` found in the work dir; nothing if it is not given."""
    if not getattr(args, "resume", False):
        return []
    last = Path(args.work_dir, "last_checkpoint")
    state = Path(last.read_text(encoding="utf-8", errors="replace").strip()).name if last.is_file() else None
    return [f"Continues from {state}." if state else "Nothing to resume: starts from the beginning."]


def report(
    runner: UnlearnRunner,
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
    """End a command: draw the picture, audit, write results.json, print the table, write the record.

    Args:
        runner: After training.
        evaluation: With all rows.
        results: See :func:`delete_tasks.report.results.collect`.
        opened: Models and data that were measured.
        console: For table and sentences.
        title: Line above the table.
        wide: Print all columns.
        picture: Name of a file in the work dir, the function that draws it, and its caption.
        lines: Gives the task's sentences beside the table. It gets ``results`` when they and the picture are written, and may
            add to their details.
        record: Options of the record; None takes those of the runner's config.
        attacked: Reads the data that the audit attacks if the table's own data are not those, see
            :func:`delete_tasks.audit.in_run.audit_run`.

    Returns:
        ``results``, with the command's ``exit_status``.
    """
    from mmengine.dist import get_rank

    from ..audit.in_run import audit_run
    from .record import write_record
    from .results import RESULTS

    if get_rank() != 0:
        return results | {"exit_status": 0}
    folder, begin = Path(runner.work_dir), time.monotonic()
    written, pictures = [runner.outcome.published, folder / RESULTS], []
    if picture is not None:
        name, draw, caption = picture
        pictures.append((str(folder / name), caption))
        evaluation.attempt(name, partial(draw, folder / name))
        if name not in evaluation.not_measured and (folder / name).is_file():
            written.append(folder / name)
    results["seconds"]["evaluating"] = round(results["seconds"]["evaluating"] + time.monotonic() - begin, 1)
    begin, options = time.monotonic(), record or runner.cfg.get("record") or {}
    results["audit"] = audit_run(evaluation, options.get("audit", "quick"), folder, attacked)
    if results["audit"] is not None:
        results["seconds"]["audit"] = round(time.monotonic() - begin, 1)
        written += [folder / name for name in results["audit"]["pictures"]]
    save_json(results, folder / RESULTS)
    sentences = lines(results)
    save_json(results, folder / RESULTS)
    show_rows(console, title, results, wide)
    for line in [*sentences, *notes(results)]:
        console.print(Text(line))
    if runner.outcome.withheld is not None:
        console.print(Text(f"The model is NOT written: {runner.outcome.withheld}."))
    console.print(Text(f"Written: {', '.join(short(path) for path in written if path)}"))
    return results | {"exit_status": write_record(runner, results, opened, record, pictures).exit_status}


def show_rows(console: Console, title: str, results: Mapping[str, Any], wide: bool = False) -> None:
    """Print the table of a results.json. If no main column was measured, the columns of detail take their place."""
    metrics = [metric for metric in results["metrics"] if metric["column"] is not None]
    rows = results["rows"]

    def value(row: str, metric: Mapping[str, Any]) -> float | None:
        return rows[row][metric["name"]]["value"]

    main = [metric for metric in metrics if not metric["detail"]]
    instead = all(value(row, metric) is None for row in rows for metric in main)
    table = Table([Column(metric["column"], metric["detail"] and not instead) for metric in metrics], title=title)
    for row in rows:
        figures = [value(row, metric) for metric in metrics]
        table.add(row_title(row), [None if figure is None else f"{figure:.2f}" for figure in figures])
    table.show(console, wide)


def notes(results: Mapping[str, Any]) -> list[str]:
    """Write what a reader needs beside the table of a results.json, a sentence a line."""
    from ..audit.report import headline
    from ..runner.forget_check import not_forgotten

    lines = []
    forgotten = " or ".join(results["forgotten"])
    worst = results["rows"]["erased"].get("worst_drop")
    if worst is not None and worst["value"] is not None and worst["value"] > 0:
        lines.append(f"Of the others, {worst['of_class']} lost most: {worst['value']:.2f} points.")
    if results["prediction_shares"]:
        shares = [f"{name} {share:.1f}%" for name, share in list(results["prediction_shares"].items())[:5]]
        lines.append(f"Predicted in place of {forgotten}: {', '.join(shares)}.")
    check = results["forget_check"]
    left = not_forgotten(check, results["recipe"]["steps"], results["recipe"]["optimizer"])
    if left is not None:
        lines.append(left)
    elif check is not None and check.get("still") is not None:
        lines.append(
            f"Forget set: {check['still']:.1f}% of what the original predicts as {forgotten} was still predicted after training"
            f"{' (before its class weights were removed)' if (results['finished'] or {}).get('rows_replaced') else ''}."
        )
    if results.get("audit") is not None:
        lines.append(f"Readability: {headline(results['audit']['verdict'])}")
    reason = (results["finished"] or {}).get("rows_not_replaced")
    if reason is not None:
        lines.append(f"The classes' weights are still in the model: {reason}.")
    lines += [f"Not measured: {part}, because {why.rstrip('.')}." for part, why in results["not_measured"].items()]
    read, seconds = results["forget_set"], results["seconds"]
    others = read["available"] - read["read"]
    left_out = f" ({others} other{'s' if others > 1 else ''} left out)" if others else ""
    times = ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items())
    lines.append(f"Read {read['read']} samples{left_out}, {results['steps']} steps; {times}.")
    return lines


def refuse_unmeasured(runner: UnlearnRunner, evaluation: Evaluation) -> None:
    """Raise RequestError if a finished run, of which all is written, could not be measured at all."""
    if "rows" in evaluation.not_measured:
        reason = evaluation.not_measured["rows"]
        raise RequestError(f"the run is over ({runner.outcome.published}), but it could not be measured: {reason}")


def tell_next(console: Console, args: SimpleNamespace, original: Any, results: Mapping[str, Any] | None) -> None:
    """Print what to do after a run. ``results`` are None on processes that have none."""
    if results is None or process_rank() > 0:
        return
    folder = shlex.quote(str(args.work_dir))
    if results.get("withheld") or results.get("written") is False:
        console.print("Next: change the recipe (--steps, --lr) and run the command again with --overwrite.")
        return
    if not args.no_record and Path(args.work_dir, "record.json").is_file():
        console.print(f"Next: delete-tasks record verify {folder}", soft_wrap=True)
    else:
        console.print(f"Next: delete-tasks compare {folder}", soft_wrap=True)
    console.print(
        f"Not deleted: the original {original}, and logs in {args.work_dir} that name the class.", soft_wrap=True
    )
