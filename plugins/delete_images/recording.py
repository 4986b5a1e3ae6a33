"""What the erasure record tells of a run on classifiers, and how its figures are measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from delete_tasks.errors import RequestError
from delete_tasks.record import Figure, Look, RecordParts

from .data import open_data
from .evaluate import accuracies, answers, count
from .looking import open_network


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``images forget``."""
    rows, folder = results["rows"], Path(runner.work_dir)
    before, after = rows["original"], rows["erased"]
    data = results["data"]["test"]
    probe = {name: (results["probe"].get(name) or {}).get("linear") for name in ("original", "erased")}
    worst = after["worst_drop"]
    figures = [
        Figure("forget_acc", "forgotten classes' accuracy on test images", after["test"]["forget_acc"], "percent", 5.0,
               before["test"]["forget_acc"]),
        Figure("forget_acc_train", "forgotten classes' accuracy on training images", after["train"]["forget_acc"], "percent",
               5.0, before["train"]["forget_acc"]),
        Figure("remain_drop", "loss of the other classes' accuracy on test images",
               drop(before["test"]["remain_acc"], after["test"]["remain_acc"]), "points", 2.0),
        Figure("worst_drop", "loss of the one other class that lost most", None if worst is None else worst["points"], "points",
               5.0),
        Figure("linear_probe", "forgotten classes as a linear probe reads them from the features", probe["erased"], "percent",
               None, probe["original"]),
    ]  # fmt: skip
    forget = runner.train_dataloader.dataset.dataset
    clean = getattr(forget, "clean", None)
    look = data if data is not None else results["data"]["forget"]
    spec = getattr(forget, "spec_json", None)
    return RecordParts(
        figures,
        pictures=[(str(folder / "confusion_before_after.png"), "What each class is taken for, before and after, in percent.")],
        other_samples={} if clean is None else {"clean samples": list(clean.names)},
        measurement=None if data is None else {"test": data, "ids": list(runner.forget_ids), "spec": spec},
        measured_on=data,
        look=Look([look], runner.forget_ids[0], {"spec": spec}),
        limits=("A linear classifier on labelled images reads part of a forgotten class from the features; "
                "linear_probe in the results says how much, where it was measured.",),
    )  # fmt: skip


def drop(before: float | None, after: float | None) -> float | None:
    """Points lost; None where either was not measured."""
    return None if before is None or after is None else round(before - after, 2)


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | None]:
    """``forget_acc``, ``remain_drop`` and ``worst_drop`` on the test images of the record.

    Args:
        paths: 'erased', a model folder, and 'original' where it still is: its weights file or folder.
        how: ``RecordParts.measurement``.

    Raises:
        RequestError, FileNotFoundError: A model or the data cannot be opened any more.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, Any] = {}
    for name, path in paths.items():
        opened = open_network(path, {"spec": how.get("spec")})
        if opened is None:
            raise RequestError(f"'{path}' is no model folder, and the record does not describe the model")
        network, spec = opened
        data = open_data(how["test"], "test", _names(how, spec))
        found[name] = count(answers(network.to(device), spec, data, f"{name}, test"))
    ids = how["ids"]
    now = accuracies(found["erased"], ids)
    out: dict[str, float | None] = {"forget_acc": now["forget_acc"]}
    if "original" in found:
        out["remain_drop"] = drop(accuracies(found["original"], ids)["remain_acc"], now["remain_acc"])
    return out


def _names(how: Mapping[str, Any], spec: Any) -> Any:
    """The original's class names: the erased model's own lack those that were forgotten."""
    return tuple(how["spec"]["classes"]) if how.get("spec") else spec.classes
