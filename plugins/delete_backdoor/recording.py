"""What the erasure record tells of ``backdoor clean``, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delete_images.recording import data_places, in_words, open_places, open_recorded
from delete_tasks.evaluation import Evaluation
from delete_tasks.record import AttentionRequest, Place, RecordParts

from .evaluation import predict_tests
from .grammar import type_of
from .metrics import METRICS
from .poison import triggered
from .triggers import parse_trigger, split_trigger


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``backdoor clean``."""
    dataset = runner.train_dataloader.dataset.dataset
    test, trigger = results["data"]["test"], results["data"]["trigger"]
    kinds, spec = "trigger-free views" if dataset.strict else "retain samples", dataset.spec_json
    how: Mapping[str, Any] | str = "no test images were given"
    if test is not None:
        target = {"target": dataset.target, "spec": spec}
        how = {"test": data_places(test), "trigger": None if trigger is None else trigger_places(trigger), **target}
    return RecordParts(
        pictures=[(str(Path(runner.work_dir) / "backdoor.png"), "Poisoned samples, and what the original and the cleaned model "
                   "take them for.")],
        other_samples={
            kinds: list(dataset.retain.names),
            "poisoned samples set aside": list(dataset.held_poisoned.names),
            f"{kinds} set aside": list(dataset.held_retain.names),
        },
        measurement=how,
        measured_on=None if test is None else [*in_words(test), f", trigger {trigger or 'not given'}"],
        attention=None if test is None or trigger is None
        else AttentionRequest([test], dataset.target, {"trigger": trigger, "spec": spec}),
        limits=("The attack figures hold for the trigger named here; another trigger of the same model is not looked for.",),
    )  # fmt: skip


def trigger_places(text: str) -> dict[str, Any]:
    """A trigger string for a measurement: files that it names are found from any folder."""
    name, options, given = split_trigger(text)
    files = {key for key, option in options.items() if type_of(option.annotation) == "File"}
    found = [
        [key, Place(os.path.abspath(os.path.expanduser(value))) if key in files else value] for key, value in given
    ]
    return {"name": name, "options": found}


def trigger_text(places: Mapping[str, Any]) -> str:
    """The trigger string of :func:`trigger_places`, whose files are texts by now."""
    options = ",".join(f"{key}={value}" for key, value in places["options"])
    return f"{places['name']}:{options}" if options else places["name"]


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> Evaluation:
    """Every metric on the test images of the record, see :meth:`delete_tasks.task.Task.measure_again`.

    Raises:
        RequestError, FileNotFoundError: A model or the data cannot be opened any more.
    """
    trigger = None if how["trigger"] is None else parse_trigger(trigger_text(how["trigger"]))
    found, names = {}, ()
    for name, path in paths.items():
        network, spec = open_recorded(path, name, how["spec"])
        names, test = spec.classes, {"test": open_places(how["test"], "test", spec.classes)}
        if trigger is not None:
            test["triggered"] = triggered(test["test"], trigger, how["target"])
        found[name] = predict_tests(network, spec, test, name)
    evaluation = Evaluation(METRICS, [how["target"]], names)
    for name in ("original", "erased"):
        if name in found:
            evaluation.add(name, found[name])
    return evaluation
