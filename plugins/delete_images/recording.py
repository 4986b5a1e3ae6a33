"""What the erasure record tells of a run on classifiers, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delete_tasks.compute import choose_device
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.record import AttentionRequest, Place, RecordParts
from delete_tasks.record.samples import FORGET_SET

from .attention_samples import open_network
from .cifar import default_root, is_mosaic_folder
from .data import ImageData, open_data
from .evaluate import predict_images
from .metrics import METRICS
from .selection import parse_spec


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``images forget``."""
    folder = Path(runner.work_dir)
    data, dataset = results["data"], runner.cfg.train_dataloader.dataset
    forget = runner.train_dataloader.dataset.dataset
    retain, spec = getattr(forget, "retain", None), getattr(forget, "spec_json", None)
    how = {
        **{name: data_places(data[name]) for name in ("test", "train", "forget")},
        "split": dataset.get("split", "train"),
        "ids": list(runner.forget_ids),
        "expected": [runner.class_names.index(name) for name in results["expected"]],
        "spec": spec,
    }
    shown = next(data[name] for name in ("test", "forget") if data[name] is not None)
    return RecordParts(
        pictures=[(str(folder / "confusion_before_after.png"), "What each class is taken for, before and after, in percent.")],
        other_samples={} if retain is None else {"public data" if forget.public else "retain set": list(retain.names)},
        measurement=how,
        measured_on=None if data["test"] is None else in_words(data["test"]),
        attention=AttentionRequest([shown], runner.forget_ids[0], {"spec": spec}),
        limits=("A linear classifier on labelled images reads part of a forgotten class from the features; "
                "linear_probe in the results says how much, where it was measured.",),
    )  # fmt: skip


def data_places(text: str | None) -> dict[str, Any] | None:
    """A data string for a measurement: what it names is found from any folder, see :func:`open_places`."""
    if text is None:
        return None
    request = parse_spec(text)
    named = request.path is not None and text.startswith(f"{request.kind}:{request.path}")
    before = f"{request.kind}:" if named else "" if request.kind == "path" else request.kind
    place = None if request.path is None else Place(os.path.abspath(os.path.expanduser(request.path)))
    return {"kind": before, "place": place, "rest": text[len(before) + len(request.path or "") :]}


def open_places(places: Mapping[str, Any], split: str, names: Any) -> ImageData:
    """The images of :func:`data_places`. Nothing is fetched: what is not there any more is not measured.

    Raises:
        RequestError: They are not there, or cannot be read.
    """
    if places["kind"]:
        root, name = Path(places["place"] or default_root()), places["kind"].rstrip(":")
        datasets: Any = require("torchvision.datasets", "images")
        try:
            if not is_mosaic_folder(root):
                {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](str(root), download=False)
        except (RuntimeError, OSError, KeyError) as error:
            raise RequestError(f"the images of {name} are not in '{root}' any more ({error})") from error
    return open_data(f"{places['kind']}{places['place'] or ''}{places['rest']}", split, names)


def in_words(text: str) -> list[str | Place]:
    """A data string for a reader."""
    places: dict[str, Any] = data_places(text)  # type: ignore[assignment]
    return [places["kind"], *([places["place"]] if places["place"] else []), places["rest"]]


def open_recorded(path: str, name: str, spec: Any) -> tuple[Any, Any]:
    """A model of a record on the device that is there. No code of its own runs: an import path is refused.

    Raises:
        RequestError: It cannot be opened any more.
    """
    opened = open_network(path, {"spec": spec})
    if opened is None:
        raise RequestError(f"'{path}' is no model folder, and the record does not describe the {name} model")
    return opened[0].to(choose_device()), opened[1]


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> Evaluation:
    """Every metric on the data of the record, see :meth:`delete_tasks.task.Task.measure_again`.

    Raises:
        RequestError, FileNotFoundError: A model cannot be opened any more.
    """
    from .rows import without_features  # which imports what imports this

    networks = {name: open_recorded(path, name, how["spec"]) for name, path in paths.items()}
    names = tuple(how["spec"]["classes"]) if how["spec"] else next(iter(networks.values()))[1].classes
    found: dict[str, dict[str, Predictions]] = {name: {} for name in networks}
    not_measured: dict[str, str] = {}
    for split in ("test", "train"):
        if split == "test" and how["test"] is None:
            continue
        try:
            data = _data(how, split, names)
        except (RequestError, FileNotFoundError) as error:
            lost = [metric for metric in METRICS if (metric.of == "training images") == (split == "train")]
            not_measured |= {metric.name: str(error) for metric in lost}
            continue
        for name, (network, spec) in networks.items():
            found[name][split] = predict_images(network, spec, data, f"{name}, {split}")
    evaluation = Evaluation(METRICS, how["ids"], names, not_measured, how.get("expected", ()))
    for name in ("original", "erased"):
        if name in found:
            row = found[name] if how["train"] is not None else without_features(found[name], "train")
            evaluation.add(name, row)
    return evaluation


def _data(how: Mapping[str, Any], split: str, names: Any) -> ImageData:
    """The images that the rows of a split were measured on."""
    if how[split] is not None:
        return open_places(how[split], split, names)
    from .rows import HEAD_IMAGES

    data = open_places(how["forget"], how["split"], names)
    chosen = how["samples"].places(FORGET_SET, data.names)
    return data.subset(chosen[:: max(1, len(chosen) // HEAD_IMAGES)])
