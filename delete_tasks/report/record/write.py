"""Writing of a record at the end of an erasing command."""

import json
import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...audit.pictures import BARS, CURVES
from ...audit.verdict import headline
from ...display.terminal import printable, say, short
from ...errors import RequestError
from ...evaluation.forget_data import FORGET_SET
from ...evaluation.functional import wilson
from ...evaluation.opened import Opened, Place, Text
from ...fileio.atomic import discard, save_json, save_text
from ...fileio.digests import describe_model, relative, section_digests, write_sums
from ...fileio.environment import plain
from ...fileio.inputs import file_sha256
from ...fileio.processes import raise_lost
from ...runner.unlearn_runner import UnlearnRunner
from .figures import exit_status, lines_of, readability
from .files import ATTENTION, FORMAT, PAGE, RECORD, SAMPLES, SCHEMA_VERSION, append, write_samples
from .html import render
from .measurement import pack
from .people import SALT, Hider, hashed, save_salt
from .sign import SIGNATURE, sign

LIMITS = (
    "This record is evidence of what was done and measured. It does not show that the class cannot be read from the model by "
    "other means than those measured here.",
    "Figures hold for the data they were measured on. An interval covers chance in the choice of those data, not other data.",
    "Digests detect accidental change. They detect deliberate change only together with a detached signature whose key is kept "
    "elsewhere, since anyone who changes a file can compute its digest again.",
    "The residue existed when the record was written; this program deletes none of it and does not search for copies elsewhere.",
)
ATTENTION_SAMPLES = 3
OF_STEPS = ("optimizer", "schedule", "stop")  # settings without effect in a run that took no training step
Content = Mapping[str, Any]


def write_record(
    runner: UnlearnRunner, results: Content, opened: Opened, options: Content, captions: dict[str, str]
) -> int:
    """Print the limits of a finished run, write DIR/record.json, record.html, samples.txt and record.sha256, add a line to the
    log of ``--record-log``, print the verdict, and return the exit status; called on the first process. ``options`` are of
    :func:`.options.record_options`, ``captions`` the pictures', by path. Raise :class:`RequestError` if the written record could
    not be signed, :class:`CheckpointMismatchError` if the original was changed during the run: nothing is written."""
    runner.work.check_inputs()
    rows, withheld = results["limits"], runner.outcome.withheld
    say("\n".join(lines_of(rows)))
    if not options.get("skip"):
        path = _write(runner, results, opened, options, captions)
        say(f"Erasure record: {short(path)}, {short(path.with_name(PAGE))}")
        if options.get("sign"):
            runner.work.finish()  # also if signing fails, since the record exists
            try:
                sign(path.parent, options["sign"])
            except (OSError, RequestError) as error:
                raise RequestError(
                    f"the record in '{path.parent}' is written, but not signed: {error}. Sign it with: delete-tasks record sign "
                    f"{path.parent} --key KEY"
                ) from error
    say(f"Verdict: {headline(results['verdict'])}")
    return exit_status(results["verdict"], rows, withheld, bool(options.get("fail_on_limit")))


def _write(runner: UnlearnRunner, results: Content, opened: Opened, options: Content, captions: dict[str, str]) -> Path:
    task, folder = runner.task, Path(runner.work_dir)
    hide = task.classes_are_people and not options.get("show_names")
    salt = secrets.token_bytes(32) if hide else None
    names = runner.selection.class_names
    hider = Hider(names, salt, folder)
    samples = _samples(runner, opened, folder, salt)
    discard(folder / ATTENTION)
    if hide:
        drawn = [pair for pair in captions.items() if Path(pair[0]).name in (BARS, CURVES)]
        picture_note: str | None = "Pictures with people's names or faces are left out, since names are hidden."
    else:
        drawn, picture_note = _pictures(runner, opened, captions, folder)
    original = describe_model(runner.teacher_path, folder)
    erased = None if runner.outcome.published is None else describe_model(runner.outcome.published, folder)
    measurement, measurement_note = _measurement(opened, hider)
    pictures = [{"path": relative(path, folder), "caption": text, "sha256": file_sha256(path)} for path, text in drawn]
    copies = [replace(each, names=()) for each in opened.copies] if hide else opened.copies
    verdict = results["verdict"]
    reasons = {name: hider.text(reason) for name, reason in verdict["reasons"].items()}
    record: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "id": str(uuid.uuid4()),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "request": {
            "reference": hider.text(options.get("reference")),
            "date": options.get("requested"),
            "signature": bool(options.get("sign")),
        },
        "task": task.name,
        "forgotten": {
            "kind": task.forgets,
            "names_hidden": hide,
            "classes": [
                {"id": i, "name": names[i], "salted_sha256": None}
                if salt is None
                else {"id": None, "name": None, "salted_sha256": hashed(names[i], salt)}
                for i in runner.selection.forget_ids
            ],
        },
        "verdict": {**verdict, "sentence": hider.text(verdict["sentence"]), "reasons": reasons},
        "before_after": plain(results["before_after"]),
        "withheld": hider.text(runner.outcome.withheld),
        "forget_check": _forget_check(results["forget_check"]),
        "figures": [{**row, "note": hider.text(row["note"])} for row in results["limits"]],
        "method": {"name": results["recipe"]["type"] or "not known", "settings": _settings(runner, results, hider)},
        "done": results["done"],
        "code": results["code"],
        "environment": results["environment"],
        "seeds": {"run": results["recipe"].get("seed")},
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
        "results": None if hide else plain(results),  # with the names of all people
        "pictures": pictures,
        "picture_note": picture_note,
        "residue": [{"what": hider.text(i["what"]), "where": hider.place(i["where"])} for i in results["residue"]],
        "limits": [*LIMITS, *opened.limits, *map(str, copies)],
    }
    discard(folder / SIGNATURE)  # an earlier record's
    discard(folder / SALT)
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
    """Append the record's line to the log; if that fails, print it."""
    entry = {"id": record["id"], "created": record["created"], "path": hider.absolute(folder)}
    entry["record_sha256"] = file_sha256(folder / RECORD)
    for role, model in record["models"].items():
        entry[f"{role}_tensors_sha256"] = model and model["tensors_sha256"]
    try:
        append(path, entry)
    except OSError as error:
        reason = hider.text(error.strerror or str(error))
        say(f"Could not append to the log of records {hider.path(path)} ({reason}). Line: {json.dumps(entry)}")


def _settings(runner: UnlearnRunner, results: Content, hider: Hider) -> dict[str, Any]:
    done, recipe, names = results["done"], results["recipe"], runner.selection.class_names
    idle = () if done is None or done["steps"] else OF_STEPS
    settings = {name: value for name, value in recipe.items() if name not in ("type", "seed", *idle)}
    settings["resumed"] = None if done is None else done["resumed"]
    settings["classes"] = [hider.name(names[i]) for i in runner.selection.forget_ids]
    teacher = settings.get("teacher")
    return {**settings, "teacher": None if teacher is None else hider.path(teacher)}


def _samples(runner: UnlearnRunner, opened: Opened, folder: Path, salt: bytes | None) -> dict[str, Any]:
    """Write samples.txt, and return its digest and counts."""
    names = runner.selection.sample_names
    read = {**({FORGET_SET: names} if names else {}), **opened.other_samples}
    write_samples(folder / SAMPLES, read, salt)
    return {
        "list": SAMPLES,
        "list_sha256": file_sha256(folder / SAMPLES),
        "read": {kind: len(names) for kind, names in read.items()},
        "available": runner.selection.forget_set.get("available"),
        "names_hashed": salt is not None,
    }


def _forget_check(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the run's check on the forget set before and after, without labels."""
    if check is None:
        return None
    independent = check["samples"] == check["locations"]  # pixels of one image are not
    shares = {name: check[name] for name in ("samples", "locations", "before", "after")}
    return {**shares, "interval": wilson(check["after"], check["samples"]) if independent else None}


def _measurement(opened: Opened, hider: Hider) -> tuple[dict[str, Any] | None, str | None]:
    if isinstance(opened.reopen, str):
        return None, opened.reopen
    try:
        return pack(opened.reopen, hider), None
    except TypeError as error:
        return None, f"the measurement cannot be recorded: {hider.text(str(error))}"


def _words(text: Text | str | None, hider: Hider) -> str | None:
    if not isinstance(text, Text):
        return text
    return "".join(hider.path(piece.path) if isinstance(piece, Place) else piece for piece in text.pieces)  # type: ignore[misc]


def _pictures(
    runner: UnlearnRunner, opened: Opened, captions: Mapping[str, str], folder: Path
) -> tuple[list[tuple[str, str]], str | None]:
    """List the pictures of the task, of the audit and of attention, with the reason if the last is missing."""
    pictures, ids = [pair for pair in captions.items() if Path(pair[0]).is_file()], opened.ids
    if opened.look is None or not opened.look_at or runner.outcome.published is None:
        return pictures, "Attention: NOT MEASURED (no images)."
    rows, most = ("original", "erased"), ATTENTION_SAMPLES
    try:
        from ...attention.measure import compare_samples, spread_samples
        from ...attention.panels import draw

        layer, comparisons = compare_samples(opened, opened.look_at, ids[0], (), most, None, ids, rows)
        draw(folder / ATTENTION, spread_samples(comparisons, most), opened.names)
    except Exception as error:  # write the record without the picture
        raise_lost(error)
        return pictures, f"Attention: NOT MEASURED ({str(error) or type(error).__name__})"
    caption = (
        f"Attention of the models (Grad-CAM at layer {layer}) before and after, scaled to the original's maximum in each line; "
        f"{len(comparisons)} samples. {' '.join(opened.notes)}"
    )
    return [*pictures, (os.fspath(folder / ATTENTION), caption.strip())], None
