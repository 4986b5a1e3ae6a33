"""Writing a record: the one call at the end of an erasing command."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..checkpoint import file_sha256, save_json, save_text
from ..errors import MissingExtraError, RequestError, UnsupportedModelError
from .collect import code_version, environment, plain, residue
from .digests import describe_model, relative, section_digests, write_sums
from .html import render
from .log import LOG, append, find_previous, locked
from .parts import Figure, Look, RecordParts
from .people import hashed, hiding_table, new_salt, replace_all
from .sign import sign

FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 1
RECORD, PAGE, SAMPLES, ATTENTION = "record.json", "record.html", "samples.txt", "attention.jpg"
LIMITS = (
    "This record is evidence of what was done and measured. It does not show that nothing of the class can be read out of "
    "the model by other means than those measured here.",
    "Figures hold for the data they were measured on.",
    "Digests detect accidental change. Deliberate change they detect only together with a detached signature whose key is "
    "kept elsewhere, since whoever changes a file can compute its digest anew.",
    "What is listed under residue was there when the record was written; this program removes none of it and knows of no "
    "copies elsewhere.",
)
ATTENTION_SAMPLES = 3


def write_record(runner: Any, results: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Path | None:
    """Write DIR/record.json, record.html, samples.txt and record.sha256 for a finished run, and add a line to the log.

    What only the task knows comes from its ``record_parts(runner, results)``; options from ``runner.cfg.record``, see
    :func:`delete_tasks.record.record_options`.

    Args:
        runner: The UnlearnRunner, after training.
        results: What the command measured.
        options: See :func:`delete_tasks.record.record_options`; None takes the ``record`` of the runner's config.

    Returns:
        Path of record.json; None where a record is not wanted, and on all processes but the first.
    """
    from mmengine.dist import get_rank  # commands import this module for their --help

    options = dict(options or runner.cfg.get("record") or {})
    if options.get("skip") or get_rank() != 0:
        return None
    task, folder = runner.task, Path(runner.work_dir)
    parts: RecordParts = task.record_parts(runner, results)
    people = bool(getattr(task, "classes_are_people", False))
    hide = people and not options.get("show_names")
    salt = new_salt(folder) if hide else None
    table = hiding_table(runner.class_names, salt) if salt is not None else {}
    samples = _write_samples(runner, parts, folder, salt)
    shown, picture_note = ((), "Left out, as names are.") if hide else _pictures(runner, parts, folder)
    original = describe_model(runner.teacher_path, folder)
    erased = None if runner.published is None else describe_model(runner.published, folder)
    log = Path(options.get("log") or folder.resolve().parent / LOG)
    record: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "id": str(uuid.uuid4()),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "request": {"reference": options.get("reference"), "date": options.get("requested")},
        "task": task.name,
        "forgotten": {
            "kind": getattr(task, "forgets", "person" if people else "class"),
            "names_hidden": hide,
            "classes": [
                {"id": i, "name": None, "salted_sha256": hashed(runner.class_names[i], salt)}
                if salt is not None
                else {"id": i, "name": runner.class_names[i], "salted_sha256": None}
                for i in runner.forget_ids
            ],
        },
        "method": {"name": type(runner.method).__name__, "settings": _settings(runner)},
        "code": code_version(),
        "environment": environment(next(runner.unwrapped_model.parameters()).device),
        "seeds": {"run": runner.seed},
        "models": {"original": original, "erased": erased},
        "samples": samples,
        "figures": _figures(parts.figures, options.get("accept") or {}),
        "measured_on": parts.measured_on,
        "measurement": None if parts.measurement is None else plain(parts.measurement),
        # Names of all people are in it, kept ones, too.
        "results": None if hide else plain(results),
        "pictures": [
            {"path": relative(path, folder), "caption": caption, "sha256": file_sha256(path)} for path, caption in shown
        ],
        "picture_note": picture_note,
        "residue": residue(folder, runner.teacher_path, runner.published),
        "limits": [*LIMITS, *parts.limits],
    }
    if runner.withheld is not None:
        record["limits"].append(f"No erased model was written: {runner.withheld}.")
    record = replace_all(record, table)
    with locked(log):
        record["log"] = {"path": relative(log, folder)}
        record["previous"] = find_previous(log, original["tensors_sha256"])
        record["section_sha256"] = section_digests(record)
        save_json(record, folder / RECORD)
        save_text(render(record, folder), folder / PAGE)
        write_sums(folder, [RECORD, PAGE, SAMPLES])
        if options.get("sign"):
            sign(folder, options["sign"])
        append(
            log,
            {
                "id": record["id"],
                "created": record["created"],
                "path": str(folder.resolve()) if not table else replace_all(str(folder.resolve()), table),
                "record_sha256": file_sha256(folder / RECORD),
                "original_tensors_sha256": original["tensors_sha256"],
                "erased_tensors_sha256": None if erased is None else erased["tensors_sha256"],
                "previous": None if record["previous"] is None else record["previous"]["id"],
            },
        )
    print(f"Erasure record: {folder / RECORD}, {folder / PAGE}")
    return folder / RECORD


def _settings(runner: Any) -> dict[str, Any]:
    recipe = runner.recipe
    return plain(
        {
            **{key: value for key, value in runner._hook_config.items() if key != "type"},
            **{key: value for key, value in vars(runner.method).items() if key in type(runner.method).option_names()},
            **vars(recipe),
            "steps_done": runner.iter // runner.accumulation,
            "batch_size": recipe.batch_size or getattr(runner.train_dataloader, "batch_size", None),
            "accumulation": runner.accumulation,
            "resumed": runner.resumed_from is not None,
        }
    )


def _write_samples(runner: Any, parts: RecordParts, folder: Path, salt: bytes | None) -> dict[str, Any]:
    """samples.txt: a line for each sample that was read, and its digest and counts."""
    forget = runner.train_dataloader.dataset
    read = {"forget set": runner.task.sample_names(forget.dataset, forget.indices), **parts.other_samples}
    lines = []
    for kind, names in read.items():
        lines += [f"{kind}\t{name if salt is None else hashed(name, salt)}" for name in names]
    save_text("".join(f"{line}\n" for line in lines), folder / SAMPLES)
    return {
        "list": SAMPLES,
        "list_sha256": file_sha256(folder / SAMPLES),
        "read": {kind: len(names) for kind, names in read.items()},
        "available": runner.forget_info.get("available"),
        "names_hashed": salt is not None,
    }


def _figures(figures: Sequence[Figure], accept: Mapping[str, float]) -> list[dict[str, Any]]:
    known = {figure.name for figure in figures}
    # A limit that nothing was held against must be seen, and a finished run must not fail for it.
    unknown = [
        Figure(name, f"no figure has the name '{name}'; there are: {', '.join(sorted(known))}", None, "percent", limit)
        for name, limit in accept.items()
        if name not in known
    ]
    rows = []
    for figure in (*figures, *unknown):
        limit = accept.get(figure.name, figure.at_most)
        if limit is not None:
            rows.append(
                {
                    "name": figure.name,
                    "title": figure.title,
                    "unit": figure.unit,
                    "original": figure.original,
                    "value": figure.value,
                    "at_most": limit,
                    "limit_set_by": "user" if figure.name in accept else "default",
                    "status": figure.status(limit),
                }
            )
    return rows


def _pictures(runner: Any, parts: RecordParts, folder: Path) -> tuple[list[tuple[str, str]], str | None]:
    """The task's pictures and the attention picture, and why that is missing where it is."""
    pictures = [pair for pair in parts.pictures if Path(pair[0]).is_file()]
    (folder / ATTENTION).unlink(missing_ok=True)
    if parts.look is None or runner.published is None:
        return pictures, "Attention: NOT MEASURED (no images to look at were given)."
    try:
        caption = _attention(runner, parts.look, folder / ATTENTION)
    except (MissingExtraError, RequestError, UnsupportedModelError, FileNotFoundError) as error:
        return pictures, f"Attention: NOT MEASURED ({error})"
    return [*pictures, (str(folder / ATTENTION), caption)], None


def _attention(runner: Any, look: Look, path: Path) -> str:
    from ..attention.command import shown
    from ..attention.look import look_at, open_models
    from ..attention.panels import draw

    paths = {"original": runner.teacher_path, "erased": runner.published}
    task, opened = open_models(paths, look.options, runner.task.name)
    layer, looks = look_at(task, opened, look.inputs, look.class_id, (), ATTENTION_SAMPLES, None, look.options)
    draw(path, shown(looks, ATTENTION_SAMPLES), opened.class_names)
    return (
        f"Grad-CAM at layer {layer}, before and after on one scale, the original's maximum in each row; "
        f"{len(looks)} samples. {' '.join(opened.notes)}"
    ).strip()
