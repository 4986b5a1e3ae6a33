"""Writing a record: the one call at the end of an erasing command."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...display.terminal import printable, short
from ...errors import RequestError
from ...evaluation.intervals import wilson
from ...evaluation.metric import Measured
from ...evaluation.opened import Opened
from ...evaluation.text import Place, Text
from ...fileio.atomic import save_json, save_text
from ...fileio.checkpoint import file_sha256
from ...fileio.digests import describe_model, relative, section_digests, write_sums
from ...fileio.environment import code_version, environment, plain
from ...fileio.processes import raise_lost
from ..results import recipe_as_run
from .figures import Verdict, lines_of, rows_of, status_of
from .html import render
from .log import append
from .measurement import pack
from .parts import ATTENTION, FORMAT, PAGE, RECORD, SCHEMA_VERSION
from .people import SALT, Hider, hashed, new_salt, save_salt
from .readability import pictures as audit_pictures
from .readability import readability, word_of
from .residue import residue
from .samples import FORGET_SET, SAMPLES, write_samples
from .sign import SIGNATURE, sign

if TYPE_CHECKING:
    from ...runner.unlearn_runner import UnlearnRunner

LIMITS = (
    "This record is evidence of what was done and measured. It does not show that nothing of the class can be read out of "
    "the model by other means than those measured here.",
    "Figures hold for the data they were measured on. An interval says how far chance in the choice of those data reaches, and "
    "nothing of other kinds of data.",
    "Digests detect accidental change. Deliberate change they detect only together with a detached signature whose key is "
    "kept elsewhere, since whoever changes a file can compute its digest anew.",
    "What is listed under residue was there when the record was written; this program removes none of it and knows of no "
    "copies elsewhere.",
)
ATTENTION_SAMPLES = 3


def write_record(
    runner: UnlearnRunner,
    results: Mapping[str, Any],
    opened: Opened,
    options: Mapping[str, Any] | None = None,
    pictures: Sequence[tuple[str, str]] = (),
) -> Verdict:
    """Hold the figures of a finished run against their limits, say so, write DIR/record.json, record.html, samples.txt and
    record.sha256, and add a line to the log that ``--record-log`` names.

    Args:
        runner: The UnlearnRunner, after training; of the first process.
        results: See :func:`delete_tasks.report.results.collect`.
        opened: What was measured, and what the task tells of it.
        options: See :func:`delete_tasks.report.record.record_options`; None takes the ``record`` of the runner's config.
        pictures: (path, caption) of pictures that show before and after.

    Returns:
        The verdict, whose ``exit_status`` is the command's.

    Raises:
        RequestError: The record is written, but could not be signed.
    """
    options = dict(options or runner.cfg.get("record") or {})
    original, erased = (
        {name: Measured.read(found) for name, found in (results["rows"].get(row) or {}).items()}
        for row in ("original", "erased")
    )
    rows = rows_of(runner.task.metrics, original, erased, options.get("accept") or {})
    withheld = runner.outcome.withheld
    audit = word_of(results)
    fail = bool(options.get("fail_on_limit"))
    verdict = Verdict(status_of(rows, withheld, audit), rows, withheld, fail_on_limit=fail, audit=audit)
    print(printable("\n".join(lines_of(verdict))))
    if options.get("skip"):
        return verdict
    path = _write(runner, results, options, opened, pictures, verdict)
    print(printable(f"Erasure record: {short(path)}, {short(path.with_name(PAGE))}"))
    if options.get("sign"):
        _sign(path.parent, options["sign"])
    return replace(verdict, record=path)


def _write(
    runner: UnlearnRunner,
    results: Mapping[str, Any],
    options: Mapping[str, Any],
    opened: Opened,
    pictures: Sequence[tuple[str, str]],
    verdict: Verdict,
) -> Path:
    task, folder = runner.task, Path(runner.work_dir)
    people = task.classes_are_people
    hide = people and not options.get("show_names")
    salt = new_salt() if hide else None
    hider = Hider(runner.selection.class_names, salt, folder)
    samples = _samples(runner, opened, folder, salt)
    (folder / ATTENTION).unlink(missing_ok=True)
    shown, picture_note = (
        ([], "Left out, as names are.") if hide else _pictures(runner, results, opened, pictures, folder)
    )
    original = describe_model(runner.teacher_path, folder)
    erased = None if runner.outcome.published is None else describe_model(runner.outcome.published, folder)
    measurement, measurement_note = _measurement(opened, hider)
    record: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "id": str(uuid.uuid4()),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "request": {"reference": hider.text(options.get("reference")), "date": options.get("requested")},
        "task": task.name,
        "forgotten": {
            "kind": task.forgets,
            "names_hidden": hide,
            "classes": [
                {"id": i, "name": None, "salted_sha256": hashed(runner.selection.class_names[i], salt)}
                if salt is not None
                else {"id": i, "name": runner.selection.class_names[i], "salted_sha256": None}
                for i in runner.selection.forget_ids
            ],
        },
        "verdict": verdict.status,
        "withheld": hider.text(verdict.withheld),
        "forget_check": _forget_check(runner),
        "figures": [{**row, "note": hider.text(row["note"])} for row in verdict.rows],
        "method": {"name": type(runner.method).__name__, "settings": _settings(runner, hider)},
        "code": code_version(),
        "environment": environment(next(runner.unwrapped_model.parameters()).device),
        "seeds": {"run": runner.seed},
        "models": {
            "original": {
                **original,
                "path": hider.path(runner.teacher_path),
                "files": [{**file, "path": hider.path(folder / file["path"])} for file in original["files"]],
            },
            "erased": erased,
        },
        "samples": samples,
        "audit": readability(results, hider),
        "measured_on": _words(opened.measured_on, hider),
        "measurement": measurement,
        "measurement_note": measurement_note,
        # Names of all people are in it, kept ones, too.
        "results": None if hide else plain(results),
        "pictures": [
            {"path": relative(path, folder), "caption": caption, "sha256": file_sha256(path)} for path, caption in shown
        ],
        "picture_note": picture_note,
        "residue": residue(folder, runner.teacher_path, runner.outcome.published, hider),
        "limits": [*LIMITS, *opened.limits],
    }
    (folder / SIGNATURE).unlink(missing_ok=True)  # of an earlier record
    (folder / SALT).unlink(missing_ok=True)
    if salt is not None:
        save_salt(folder, salt)
    record["section_sha256"] = section_digests(record)
    save_json(record, folder / RECORD)
    save_text(printable(render(record, folder)), folder / PAGE)
    write_sums(folder, [RECORD, PAGE, SAMPLES])
    if options.get("log"):
        _log(Path(options["log"]), record, folder, hider)
    return folder / RECORD


def _log(path: Path, record: Mapping[str, Any], folder: Path, hider: Hider) -> None:
    """Add the record's line to the log."""
    tensors = {f"{role}_tensors_sha256": model and model["tensors_sha256"] for role, model in record["models"].items()}
    entry = {
        "id": record["id"],
        "created": record["created"],
        "path": hider.absolute(folder),
        "record_sha256": file_sha256(folder / RECORD),
        **tensors,
    }
    try:
        append(path, entry)
    except OSError as error:  # it could be written when the run began; its loss must not cost the record
        reason = f"{hider.path(path)}, could not be written ({hider.text(error.strerror or str(error))})"
        print(printable(f"The log of records, {reason}. Its line: {json.dumps(entry)}"))


def _sign(folder: Path, key: str) -> None:
    try:
        sign(folder, key)
    except (OSError, RequestError) as error:
        raise RequestError(
            f"the record in '{folder}' is written, but not signed: {error}. Sign it with: delete-tasks record sign {folder} "
            "--key KEY"
        ) from error


def _settings(runner: UnlearnRunner, hider: Hider) -> dict[str, Any]:
    settings = {name: value for name, value in recipe_as_run(runner).items() if name not in ("type", "seed")}
    settings["resumed"] = runner.resumed_from is not None
    teacher = settings.get("teacher")
    return {
        **settings,
        "classes": [hider.name(runner.selection.class_names[i]) for i in runner.selection.forget_ids],
        "teacher": None if teacher is None else hider.path(teacher),
    }


def _samples(runner: UnlearnRunner, opened: Opened, folder: Path, salt: bytes | None) -> dict[str, Any]:
    """samples.txt: a line for each sample that was read, and its digest and counts."""
    read = {FORGET_SET: runner.selection.sample_names, **opened.other_samples}
    write_samples(folder / SAMPLES, read, salt)
    return {
        "list": SAMPLES,
        "list_sha256": file_sha256(folder / SAMPLES),
        "read": {kind: len(names) for kind, names in read.items()},
        "available": runner.selection.forget_set.get("available"),
        "names_hashed": salt is not None,
    }


def _forget_check(runner: UnlearnRunner) -> dict[str, Any] | None:
    """What the run itself saw on the forget set before and after, without labels."""
    found = runner.outcome.forget_check
    if found is None:
        return None
    each = found["samples"] == found["locations"]  # pixels of one image depend on each other
    shares = {name: found[name] for name in ("samples", "locations", "before", "after")}
    return {**shares, "interval": wilson(found["after"], found["samples"]) if each else None}


def _measurement(opened: Opened, hider: Hider) -> tuple[dict[str, Any] | None, str | None]:
    if isinstance(opened.reopen, str):
        return None, opened.reopen
    try:
        return pack(opened.reopen, hider), None
    except TypeError as error:
        return None, f"what it takes cannot be written down: {hider.text(str(error))}"


def _words(told: Text | str | None, hider: Hider) -> str | None:
    if not isinstance(told, Text):
        return told
    return "".join(hider.path(one.path) if isinstance(one, Place) else one for one in told.pieces)  # type: ignore[misc]


def _pictures(
    runner: UnlearnRunner, results: Mapping[str, Any], opened: Opened, drawn: Sequence[tuple[str, str]], folder: Path
) -> tuple[list[tuple[str, str]], str | None]:
    """The task's pictures, the audit's and the attention picture, and why that is missing where it is."""
    pictures = [pair for pair in (*drawn, *audit_pictures(results, folder)) if Path(pair[0]).is_file()]
    if opened.look is None or not opened.look_at or runner.outcome.published is None:
        return pictures, "Attention: NOT MEASURED (no images to look at were given)."
    try:
        caption = _attention(opened, folder / ATTENTION)
    except Exception as error:  # a picture that cannot be drawn must not cost the record
        raise_lost(error)
        return pictures, f"Attention: NOT MEASURED ({str(error) or type(error).__name__})"
    return [*pictures, (os.fspath(folder / ATTENTION), caption)], None


def _attention(opened: Opened, path: Path) -> str:
    from ...attention.command import shown
    from ...attention.panels import draw
    from ...attention.samples import compare_samples

    layer, comparisons = compare_samples(
        opened, opened.look_at, opened.ids[0], (), ATTENTION_SAMPLES, None, opened.ids, ("original", "erased")
    )
    draw(path, shown(comparisons, ATTENTION_SAMPLES), opened.names)
    return (
        f"Where the models look (Grad-CAM at layer {layer}), before and after on one scale: the original's maximum in each row; "
        f"{len(comparisons)} samples. {' '.join(opened.notes)}"
    ).strip()
