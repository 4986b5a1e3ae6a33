"""What the erasure record tells of ``backdoor clean``, and how its figures are measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from delete_images.data import open_data
from delete_images.evaluate import answers
from delete_images.looking import open_network
from delete_tasks.errors import RequestError
from delete_tasks.record import Figure, Look, RecordParts

from .measure import figures
from .poison import triggered
from .triggers import parse_trigger


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``backdoor clean``."""
    rows = results["rows"]
    before = rows.get("original") or {}
    after: dict[str, Any] = next((rows[name] for name in ("erased_with_clean", "erased_strict") if rows.get(name)), {})
    dataset = runner.train_dataloader.dataset.dataset
    test, trigger = results["test"]["data"], results["test"]["trigger"]
    worst = after.get("worst_drop")
    kinds = "trigger-free views" if dataset.strict else "clean samples"
    spec = dataset.spec_json
    return RecordParts(
        [
            Figure("asr", "triggered test images that are predicted as the target", after.get("asr"), "percent", 5.0,
                   before.get("asr")),
            Figure("acc_drop", "loss of accuracy on clean test images", drop(before.get("acc"), after.get("acc")), "points", 5.0),
            Figure("worst_drop", "loss of the class that lost most on clean test images",
                   None if worst is None else worst["points"], "points", 15.0),
        ],
        pictures=[(str(Path(runner.work_dir) / "backdoor.png"), "Poisoned samples, and what the original and the cleaned model "
                   "take them for.")],
        other_samples={
            kinds: list(dataset.clean.names),
            "poisoned samples set aside": list(dataset.held_poisoned.names),
            f"{kinds} set aside": list(dataset.held_clean.names),
        },
        measurement=None if test is None else {"test": test, "trigger": trigger, "target": dataset.target, "spec": spec},
        measured_on=None if test is None else f"{test}, trigger {trigger or 'not given'}",
        look=None if test is None or trigger is None
        else Look([test], dataset.target, {"trigger": trigger, "spec": spec}),
        limits=("The attack figures hold for the trigger named here; another trigger of the same model is not looked for.",),
    )  # fmt: skip


def drop(before: float | None, after: float | None) -> float | None:
    """Points lost; None where either was not measured."""
    return None if before is None or after is None else round(before - after, 2)


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | None]:
    """``asr``, ``acc_drop`` and ``worst_drop`` on the test images of the record.

    Args:
        paths: 'erased', and 'original' where it still is.
        how: ``RecordParts.measurement``.

    Raises:
        RequestError: A model or the data cannot be opened any more.
    """
    said: dict[str, list[Any]] = {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, path in paths.items():
        opened = open_network(path, {"spec": how["spec"]})
        if opened is None:
            raise RequestError(f"'{path}' is no model folder, and the record does not describe the model")
        network, spec = opened
        clean = open_data(how["test"], "test", spec.classes)
        attacked = None if how["trigger"] is None else triggered(clean, parse_trigger(how["trigger"]), how["target"])
        said[name] = [
            None if data is None else answers(network.to(device), spec, data, f"{name}, test")
            for data in (clean, attacked)
        ]
    after = figures(
        said["erased"][0], said["erased"][1], said.get("original", said["erased"])[0], how["target"], spec.classes
    )
    out: dict[str, float | None] = {"asr": after["asr"]}
    if "original" in said:
        before = figures(said["original"][0], None, said["original"][0], how["target"], spec.classes)
        out["acc_drop"] = drop(before["acc"], after["acc"])
        out["worst_drop"] = None if after["worst_drop"] is None else after["worst_drop"]["points"]
    return out
