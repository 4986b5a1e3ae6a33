"""Output of a command: its plan before the run; table, notes, results.json and record after it; the next step."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..display.table import Column, Table, row_title
from ..display.terminal import announce, begin_stage, short
from ..errors import RequestError
from ..fileio.atomic import save_json, save_text
from ..fileio.inputs import read_text
from ..fileio.processes import process_rank

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.opened import Opened
    from ..runner.unlearn_runner import UnlearnRunner

KINDS = 6  # of residue, in the terminal


def tell_before(
    console: Console, args: SimpleNamespace, names: Sequence[str], model: Any, data: Any, recipe: Mapping[str, Any]
) -> None:
    """Print the plan of an unlearning run. ``recipe`` may hold ``type``, ``steps`` and ``batch_size``."""
    method = str(recipe.get("type", "DELETE"))
    if recipe.get("steps"):
        size = recipe.get("batch_size")
        batches = f" of {size} sample{'s' * (size != 1)}" if size else ""
        method += f", at most {recipe['steps']} steps{batches}"
    classes = ", ".join(map(str, names)) or "the classes of the config"
    tell_plan(console, args, f"Unlearning {classes} from {model} ({method}).\nReads {data}")
    begin_stage("checks")


def tell_plan(console: Console, args: SimpleNamespace, plan: str) -> None:
    """Print a plan, the work dir, and with ``--resume`` the state that the run continues from."""
    lines = [f"{plan}; writes to {args.work_dir} (log: run.log)."]
    if getattr(args, "resume", False):
        pointer = Path(args.work_dir, "last_checkpoint")
        state = Path(read_text(pointer, "replace").strip()).name if pointer.is_file() else None
        lines.append(f"Continues from {state}." if state else "Nothing to resume: starts from the beginning.")
    if process_rank() == 0:
        announce(console, lines)


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
    """End a command: print the table, draw the picture, audit, write results.json and the record; return ``results``, those of
    :func:`delete_tasks.report.results.collect`, with the command's ``exit_status``. ``title`` is that of the table, which has all
    columns if ``wide``; ``picture`` is the name of a file in the work dir, the function that draws it, and its caption; ``lines``
    returns the task's notes on the table, from ``results``; ``record`` are options of the record, by default the config's;
    ``attacked`` reads the data of the audit, if they are not the table's."""
    from mmengine.dist import get_rank

    from ..audit.in_run import audit_run
    from ..audit.verdict import conclude
    from .record.figures import CAPTIONS, before_after, rows_of
    from .record.write import write_record
    from .residue import find_residue
    from .results import FIGURES, RESULTS, to_csv

    if get_rank() != 0:
        return results | {"exit_status": 0}
    show_rows(console, title, results, wide)
    for line in [*lines(results), *notes(results)]:
        console.print(line)
    missing = set(results["not_measured"])
    begin_stage("picture")
    folder, begin = Path(runner.work_dir), time.monotonic()
    written, captions = [runner.outcome.published, folder / RESULTS], dict[str, str]()
    if picture is not None:
        name, draw, caption = picture
        captions[str(folder / name)] = caption
        evaluation.attempt(name, partial(draw, folder / name))
        if name not in evaluation.not_measured and (folder / name).is_file():
            written.append(folder / name)
    results["seconds"]["evaluating"] = round(results["seconds"]["evaluating"] + time.monotonic() - begin, 1)
    begin, options = time.monotonic(), record or runner.cfg.get("record") or {}
    if options.get("audit") != "none":
        begin_stage("audit")
    original = opened.models.get("original")
    results["audit"], verdict = audit_run(evaluation, options.get("audit", "quick"), folder, attacked, original)
    results["limits"] = rows_of(runner.task.metrics, results["rows"], options.get("accept") or {})
    results["verdict"] = conclude(verdict, results["limits"], runner.outcome.withheld)
    results["before_after"] = before_after(evaluation, results)
    results["duplicates"] = list(map(asdict, opened.copies))
    if results["audit"] is not None:
        results["seconds"]["audit"] = round(time.monotonic() - begin, 1)
        written += [folder / name for name in results["audit"]["pictures"]]
        captions |= {str(folder / name): CAPTIONS[name] for name in results["audit"]["pictures"]}
    save_json(results, folder / RESULTS)
    save_text(to_csv(results), folder / FIGURES)
    salted = runner.task.classes_are_people and not options.get("show_names") and not options.get("skip")
    results["residue"] = find_residue(runner, results, captions, salted)
    save_json(results, folder / RESULTS)
    begin_stage("record")
    later = {name: why for name, why in results["not_measured"].items() if name not in missing}
    times = ", ".join(f"{name} {spent:.0f} s" for name, spent in results["seconds"].items())
    for line in [*unmeasured(later), f"Time: {times}."]:
        console.print(line)
    if runner.outcome.withheld is not None:
        console.print(f"The model is NOT written: {runner.outcome.withheld}.")
    inside = [path for path in written if path and Path(path).resolve().is_relative_to(folder.resolve())]
    console.print(f"Written: {', '.join(map(short, inside))}")
    return results | {"exit_status": write_record(runner, results, opened, options, captions)}


def show_rows(console: Console, title: str, results: Mapping[str, Any], wide: bool = False) -> None:
    """Print the table of a results.json; if no main column was measured, print the columns of detail instead."""
    metrics = [metric for metric in results["metrics"] if metric["column"] is not None]
    rows = {name: [row[metric["name"]]["value"] for metric in metrics] for name, row in results["rows"].items()}
    main = [metric["name"] for metric in metrics if not metric["detail"]]
    has_main = any(row[name]["value"] is not None for row in results["rows"].values() for name in main)
    table = Table([Column(metric["column"], metric["detail"] and has_main) for metric in metrics], title=title)
    for name, values in rows.items():
        table.add(row_title(name), [None if value is None else f"{value:.2f}" for value in values])
    table.show(console, wide)


def notes(results: Mapping[str, Any]) -> list[str]:
    """Write the notes on the table of a results.json, one sentence per line."""
    from ..runner.done import sentences
    from ..runner.forget_check import not_forgotten

    lines, forgotten = [], " or ".join(results["forgotten"])
    worst = results["rows"]["erased"].get("worst_drop")
    if worst is not None and worst["value"] is not None and worst["value"] > 0:
        whose = f"{worst['of_class']}, {worst['value']:.2f} points"
        if worst["of_class"] in results["forgotten"]:  # a backdoor's target, whose own samples are to stay recognised
            lines.append(f"Largest loss of a class: {whose}; it is the run's target.")
        else:
            lines.append(f"Largest loss of a retained class: {whose}.")
    if results["prediction_shares"]:
        shares = [f"{name} {share:.1f}%" for name, share in list(results["prediction_shares"].items())[:5]]
        lines.append(f"Predicted in place of {forgotten}: {', '.join(shares)}.")
    avoided = results["rows"]["erased"].get("avoided") or {}
    if avoided.get("value") is not None:
        named = ", ".join(map(str, results["recipe"].get("avoid") or ["by the config"]))
        became = f"Became a class to avoid ({named}): {avoided['value']:.1f}%"
        lines.append(f"{became}; --avoid lowers that, it rules nothing out.")
    check, finished = results["forget_check"], results["finished"] or {}
    failure = not_forgotten(check, results["recipe"]["steps"], results["recipe"].get("optimizer") or {})
    if failure is not None:
        lines.append(failure)
    elif check is not None and check.get("still") is not None:
        when = " (before the class weights were removed)" if finished.get("rows_replaced") else ""
        remained = f"{check['still']:.1f}% of the original's predictions of {forgotten} remained after training{when}"
        lines.append(f"Forget set: {remained}.")
    if finished.get("rows_not_replaced") is not None:
        lines.append(f"The class weights are still in the model: {finished['rows_not_replaced']}.")
    lines += unmeasured(results["not_measured"])
    if "done" in results:
        lines.append(f"Done: {' '.join(sentences(results['done']))}")
    unread = (results["forget_set"]["available"] or 0) - (results["forget_set"]["read"] or 0)
    return [*lines, f"{unread:,} samples of the data were not read."] if unread else lines


def unmeasured(reasons: Mapping[str, str]) -> list[str]:
    """Write a sentence for each part that was not measured."""
    return [f"Not measured: {part}, because {why.rstrip('.')}." for part, why in reasons.items()]


def refuse_unmeasured(runner: UnlearnRunner, evaluation: Evaluation) -> None:
    """Raise RequestError if a finished run could not be measured at all."""
    if "rows" in evaluation.not_measured:
        reason = evaluation.not_measured["rows"]
        raise RequestError(f"the run is over ({runner.outcome.published}), but it could not be measured: {reason}")


def tell_next(console: Console, args: SimpleNamespace, results: Mapping[str, Any] | None, first: str = "") -> int:
    """Print the next step after a run, and its residue by kind; return the command's exit status. ``results`` are None on a
    process without results; ``first`` precedes the advice for a model that was not written."""
    from .record.files import UNKNOWN

    if results is None or process_rank() > 0:
        return 0
    folder = shlex.quote(str(args.work_dir))
    if results.get("withheld"):
        console.print(f"Next: {first}change the recipe (--steps, --lr) and run the command again with --overwrite.")
        return results["exit_status"]
    recorded = not args.no_record and Path(args.work_dir, "record.json").is_file()
    console.print(f"Next: delete-tasks {'record verify' if recorded else 'compare'} {folder}", soft_wrap=True)
    places: dict[str, list[str]] = {}
    for item in results.get("residue", []):
        if item["where"] != UNKNOWN:
            places.setdefault(re.split("[:,] ", item["what"])[0], []).append(short(item["where"]))
    count, names = sum(map(len, places.values())), " or ".join(results["forgotten"])
    listed = f"listed in results.json{' and record.html' if recorded else ''}"
    console.print(f"Not deleted: {count} places that may still hold {names} ({listed}), and copies elsewhere.")
    for kind, (first, *others) in list(places.items())[:KINDS]:
        first = first if len(kind) + len(first) + 4 <= console.width else f".../{Path(first).name}"
        console.print(f"  {kind}: {f'{len(others) + 1} places' if others else first}")
    if len(places) > KINDS:
        console.print(f"  others: {sum(map(len, list(places.values())[KINDS:]))} places")
    return results["exit_status"]
