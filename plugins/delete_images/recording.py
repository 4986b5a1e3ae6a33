"""What the erasure record tells of a run on classifiers, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from delete_tasks.errors import RequestError, require
from delete_tasks.forgotten import MOST_STILL
from delete_tasks.record import Figure, Look, Place, RecordParts, why_not
from delete_tasks.record.intervals import paired
from delete_tasks.record.samples import FORGET_SET

from .cifar import default_root, is_mosaic_folder
from .data import ImageData, open_data
from .evaluate import Answers, answers, probes, row
from .kept import calibration
from .looking import open_network
from .selection import parse_spec

FIGURES: tuple[Figure, ...] = (
    Figure("forget_acc", "forgotten classes' accuracy on test images", "percent", 5.0, "test images"),
    Figure("forget_acc_train", "forgotten classes' accuracy on training images", "percent", 5.0, "training images"),
    Figure("remain_drop", "loss of the other classes' accuracy on test images", "points", 2.0, "test images"),
    Figure("worst_drop", "loss of the one other class that lost most", "points", 5.0, "test images"),
    Figure("linear_probe", "forgotten classes as a linear probe reads them from the features", "percent", None, "test images"),
    Figure("still_predicted", "training views still predicted as the forgotten classes when training ended, of those that were",
           "percent", MOST_STILL, "training views"),
    Figure("nll_rise", "rise of the other classes' negative log-likelihood on test images", "percent", 10.0, "test images"),
    Figure("ece_rise", "rise of the other classes' calibration error (ECE) on test images", "points", 1.0, "test images"),
)  # fmt: skip
BEFORE_THE_ROWS_GO = (
    "it is of the run's own views and of the last layer before the forgotten rows were taken out; neither is kept"
)
OF_ALL = "of the probabilities of all images together, for which counts give no interval"
CHOSEN_WORST = "of all classes the one that lost most, which chance alone makes large"


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``images forget``."""
    folder = Path(runner.work_dir)
    data, dataset = results["data"], runner.cfg.train_dataloader.dataset
    forget = runner.train_dataloader.dataset.dataset
    clean, spec = getattr(forget, "clean", None), getattr(forget, "spec_json", None)
    how = {
        **{name: data_places(data[name]) for name in ("test", "train", "forget")},
        "split": dataset.get("split", "train"),
        "ids": list(runner.forget_ids),
        "spec": spec,
    }
    shown = next(data[name] for name in ("test", "forget") if data[name] is not None)
    return RecordParts(
        fill(results, runner.class_names),
        pictures=[(str(folder / "confusion_before_after.png"), "What each class is taken for, before and after, in percent.")],
        other_samples={} if clean is None else {"clean samples": list(clean.names)},
        measurement=how,
        measured_on=None if data["test"] is None else in_words(data["test"]),
        look=Look([shown], runner.forget_ids[0], {"spec": spec}),
        limits=("A linear classifier on labelled images reads part of a forgotten class from the features; "
                "linear_probe in the results says how much, where it was measured.",),
    )  # fmt: skip


def fill(results: Mapping[str, Any], names: Any) -> list[Figure]:
    """The figures with what the rows and probes of a table say."""
    before, after = results["rows"]["original"], results["rows"]["erased"]
    probe = {name: (results["probe"].get(name) or {}).get("linear") for name in ("original", "erased")}
    counts: dict[str, Any] = {split: after["counts"][split] or {} for split in ("train", "test")}
    test, worst = counts["test"], after["worst_drop"]
    forget_acc, forget_train, remain_drop, worst_drop, linear, still, nll_rise, ece_rise = FIGURES
    found = [
        forget_acc.share(after["test"]["forget_acc"], before["test"]["forget_acc"], test.get("forget")),
        forget_train.share(after["train"]["forget_acc"], before["train"]["forget_acc"], counts["train"].get("forget")),
        remain_drop.measured(
            drop(before["test"]["remain_acc"], after["test"]["remain_acc"]),
            count=test.get("remain"),
            interval=paired(test.get("lost"), test.get("gained"), test.get("remain")),
        ),
        worst_of(worst_drop, worst, test, names),
        linear.share(probe["erased"], probe["original"], test.get("forget")),
        still_of(still, results["forget_check"]),
        nll_rise.measured(rise(before["nll"], after["nll"]), count=test.get("remain"), note=OF_ALL),
        ece_rise.measured(drop(after["ece"], before["ece"]), count=test.get("remain"), note=OF_ALL),
    ]
    lacking = "the data show none of these classes" if test else "no test images were given (--eval)"
    reasons = {
        "forget_acc_train": "no image has a label",
        "still_predicted": "the original predicts the classes on none of them",
        "linear_probe": "it takes test and training images (--eval, --train)",
    }
    failed = why_not(results, "rows")
    reasons["linear_probe"] = why_not(results, "probe") or reasons["linear_probe"]
    if failed:
        reasons = {"still_predicted": reasons["still_predicted"]}  # which the run itself measures
    return [figure.or_because(reasons.get(figure.name, failed or lacking)) for figure in found]


def still_of(figure: Figure, check: Mapping[str, Any] | None) -> Figure:
    """The figure of the check without labels: the published last layer has no row of the classes to predict them by."""
    if check is None or check.get("still") is None:
        return figure
    return figure.share(check["still"], 100.0, round(check["before"] * check["locations"] / 100))


def worst_of(figure: Figure, worst: Mapping[str, Any] | None, test: Mapping[str, Any], names: Any) -> Figure:
    """The figure of the class that lost most."""
    if worst is None:
        return figure
    return figure.measured(
        worst["points"], count=test["of_class"][list(names).index(worst["class"])], note=CHOSEN_WORST
    )


def drop(before: float | None, after: float | None) -> float | None:
    """Points lost; None where either was not measured."""
    return None if before is None or after is None else round(before - after, 2)


def rise(before: float | None, after: float | None) -> float | None:
    """Percent gained; None where either was not measured, or there was nothing before."""
    return None if not before or after is None else round(min(100 * (after / before - 1), 1e6), 2)


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
    return opened[0].to("cuda" if torch.cuda.is_available() else "cpu"), opened[1]


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Every figure on the data of the record.

    Args:
        paths: 'erased', a model folder, and 'original' where it still is: its weights file or folder.
        how: ``RecordParts.measurement``, and ``samples``.

    Returns:
        By name: a number, or why there is none.

    Raises:
        RequestError, FileNotFoundError: A model cannot be opened any more.
    """
    networks = {name: open_recorded(path, name, how["spec"]) for name, path in paths.items()}
    names = (
        tuple(how["spec"]["classes"])
        if how["spec"]
        else networks["original" if "original" in networks else "erased"][1].classes
    )
    reasons: dict[str, str] = {}

    def predictions(split: str) -> dict[str, Answers]:
        try:
            data = _data(how, split, names)
        except (RequestError, FileNotFoundError) as error:
            reasons[split] = str(error)
            return {}
        return {name: answers(net, spec, data, f"{name}, {split}") for name, (net, spec) in networks.items()}

    test = predictions("test") if how["test"] is not None else {}
    train = predictions("train")
    erased = row(train.get("erased"), test.get("erased"), test.get("original", test.get("erased")), names, how["ids"])
    out: dict[str, Any] = {
        "forget_acc": reasons.get("test", erased["test"]["forget_acc"]),
        "forget_acc_train": reasons.get("train", erased["train"]["forget_acc"]),
    }
    out["still_predicted"] = BEFORE_THE_ROWS_GO
    lacking = reasons.get("test") or ("original" not in networks and "the original is not there any more")
    if lacking:
        out |= dict.fromkeys(("remain_drop", "worst_drop", "nll_rise", "ece_rise"), lacking)
    elif test:
        original = row(None, test["original"], test["original"], names, how["ids"])
        out["remain_drop"] = drop(original["test"]["remain_acc"], erased["test"]["remain_acc"])
        out["worst_drop"] = erased["worst_drop"] and erased["worst_drop"]["points"]
        fits = {name: calibration(found.logits, found.labels, how["ids"]) for name, found in test.items()}
        out["nll_rise"] = rise(fits["original"]["nll"], fits["erased"]["nll"])
        out["ece_rise"] = drop(fits["erased"]["ece"], fits["original"]["ece"])
    if train and test and how["train"] is not None:
        out["linear_probe"] = probes(train["erased"], test["erased"], how["ids"])["linear"]
    return out


def _data(how: Mapping[str, Any], split: str, names: Any) -> ImageData:
    """The images that the rows of a split were measured on."""
    if how[split] is not None:
        return open_places(how[split], split, names)
    from .rows import HEAD_IMAGES  # which imports what imports this

    data = open_places(how["forget"], how["split"], names)
    chosen = how["samples"].places(FORGET_SET, data.names)
    return data.subset(chosen[:: max(1, len(chosen) // HEAD_IMAGES)])
