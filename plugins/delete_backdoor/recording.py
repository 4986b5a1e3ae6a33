"""What the erasure record tells of ``backdoor clean``, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delete_images.evaluate import answers
from delete_images.recording import data_places, drop, in_words, open_places, open_recorded, worst_of
from delete_tasks.record import Figure, Look, Place, RecordParts, why_not
from delete_tasks.record.intervals import paired

from .measure import figures
from .poison import triggered
from .triggers import parse_trigger

FIGURES: tuple[Figure, ...] = (
    Figure("asr", "triggered test images that are predicted as the target", "percent", 5.0, "triggered test images"),
    Figure("acc_drop", "loss of accuracy on clean test images", "points", 5.0, "clean test images"),
    Figure("worst_drop", "loss of the class that lost most on clean test images", "points", 15.0, "clean test images"),
)


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``backdoor clean``."""
    rows = results["rows"]
    before = rows.get("original") or {}
    after: dict[str, Any] = next((rows[name] for name in ("erased_with_clean", "erased_strict") if rows.get(name)), {})
    dataset = runner.train_dataloader.dataset.dataset
    test, trigger = results["test"]["data"], results["test"]["trigger"]
    kinds, spec = "trigger-free views" if dataset.strict else "clean samples", dataset.spec_json
    how: Mapping[str, Any] | str = "no test images were given"
    if test is not None:
        target = {"target": dataset.target, "spec": spec}
        how = {"test": data_places(test), "trigger": None if trigger is None else trigger_places(trigger), **target}
    return RecordParts(
        fill(before, after, runner.class_names, why_not(results, "erased_with_clean", "erased_strict")),
        pictures=[(str(Path(runner.work_dir) / "backdoor.png"), "Poisoned samples, and what the original and the cleaned model "
                   "take them for.")],
        other_samples={
            kinds: list(dataset.clean.names),
            "poisoned samples set aside": list(dataset.held_poisoned.names),
            f"{kinds} set aside": list(dataset.held_clean.names),
        },
        measurement=how,
        measured_on=None if test is None else [*in_words(test), f", trigger {trigger or 'not given'}"],
        look=None if test is None or trigger is None
        else Look([test], dataset.target, {"trigger": trigger, "spec": spec}),
        limits=("The attack figures hold for the trigger named here; another trigger of the same model is not looked for.",),
    )  # fmt: skip


def fill(before: Mapping[str, Any], after: Mapping[str, Any], names: Any, failed: str | None) -> list[Figure]:
    """The figures with what two rows of the table say; a row without figures is empty."""
    counts, attacked = after.get("counts") or {}, (after.get("images") or {}).get("triggered")
    asr, acc_drop, worst_drop = FIGURES
    found = [
        asr.share(after.get("asr"), before.get("asr"), attacked),
        acc_drop.measured(
            drop(before.get("acc"), after.get("acc")),
            count=counts.get("remain"),
            interval=paired(counts.get("lost"), counts.get("gained"), counts.get("remain")),
        ),
        worst_of(worst_drop, after.get("worst_drop"), counts, names),
    ]
    lacking = "no trigger was given (--trigger)" if counts else "no test images were given (--eval)"
    return [figure.or_because(failed or lacking) for figure in found]


def trigger_places(text: str) -> dict[str, Any]:
    """A trigger string for a measurement: files that it names are found from any folder."""
    name, _, rest = text.partition(":")
    parts: list[str | Place] = []
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        is_file = equals and key in ("image", "mask")
        parts += [f"{key}=", Place(os.path.abspath(value))] if is_file else [part]
    return {"name": name, "parts": parts}


def trigger_text(places: Mapping[str, Any]) -> str:
    """The trigger string of :func:`trigger_places`."""
    parts: list[str] = []
    for part in places["parts"]:
        if parts and parts[-1] in ("image=", "mask="):
            parts[-1] += part
        else:
            parts.append(part)
    return f"{places['name']}:{','.join(parts)}" if parts else places["name"]


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Every figure on the test images of the record.

    Args:
        paths: 'erased', and 'original' where it still is.
        how: ``RecordParts.measurement``.

    Returns:
        By name: a number, or why there is none.

    Raises:
        RequestError, FileNotFoundError: A model or the data cannot be opened any more.
    """
    found: dict[str, list[Any]] = {}
    trigger = None if how["trigger"] is None else parse_trigger(trigger_text(how["trigger"]))
    for name, path in paths.items():
        network, spec = open_recorded(path, name, how["spec"])
        clean = open_places(how["test"], "test", spec.classes)
        attacked = None if trigger is None else triggered(clean, trigger, how["target"])
        found[name] = [
            None if data is None else answers(network, spec, data, f"{name}, test") for data in (clean, attacked)
        ]
    original = found.get("original", found["erased"])[0]
    after = figures(found["erased"][0], found["erased"][1], original, how["target"], spec.classes)
    if "original" not in found:
        lacking = "the original is not there any more"
        return {"asr": after["asr"], "acc_drop": lacking, "worst_drop": lacking}
    before = figures(original, None, original, how["target"], spec.classes)
    worst = after["worst_drop"]
    return {
        "asr": after["asr"],
        "acc_drop": drop(before["acc"], after["acc"]),
        "worst_drop": None if worst is None else worst["points"],
    }
