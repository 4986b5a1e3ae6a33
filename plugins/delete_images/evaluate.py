"""Figures that tell forgetting from hiding: accuracies of forgotten and remaining classes, and what can still be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_tasks.audit.linear_probe import FeatureTap, fit_linear_probe
from delete_tasks.audit.prototype import prototype_accuracy
from delete_tasks.progress import track

from .architectures import classifier_of
from .classifier import class_outputs
from .counts import counts
from .data import ImageData
from .spec import ModelSpec
from .transforms import TransformedData, eval_transform

BATCH = 250


@dataclass(frozen=True)
class Answers:
    """What a network said of labelled images.

    Attributes:
        logits: float32 ``(n, C)``.
        features: float32 ``(n, d)``, the last layer's input; None where that is no row of features.
        labels: int64 ``(n,)``.
    """

    logits: Tensor
    features: Tensor | None
    labels: Tensor


def answers(network: nn.Module, spec: ModelSpec, data: ImageData, title: str = "Evaluating") -> Answers:
    """Run a network (on its device, in eval mode) over images as its description wants them."""
    network.eval()
    device = next(network.parameters()).device
    loader = DataLoader(TransformedData(data, eval_transform(spec)), batch_size=BATCH)
    logits, features, labels = [], [], []
    with FeatureTap(classifier_of(network, len(spec.classes)).module) as tap, torch.no_grad():
        for images, label in track(loader, len(loader), title):
            logits.append(class_outputs(network(images.to(device)), len(spec.classes))[0].float().cpu())
            features.append(None if tap.features is None else tap.features.float().cpu())
            labels.append(label)
    rows = [part for part in features if part is not None and part.ndim == 2]
    whole = torch.cat(rows) if len(rows) == len(features) else None
    return Answers(torch.cat(logits), whole, torch.cat(labels))


def cut(given: Answers, ids: Sequence[int]) -> Answers:
    """The same with the logits of ``ids`` at minus infinity: what hiding looks like."""
    logits = given.logits.clone()
    logits[:, list(ids)] = -torch.inf
    return replace(given, logits=logits)


def through_head(given: Answers, head: nn.Module) -> Answers | None:
    """The same features through another last layer; None where there are no rows of features to go through it."""
    if given.features is None:
        return None
    with torch.no_grad():
        return replace(given, logits=head.cpu()(given.features))


def head_is_last(given: Answers, head: nn.Module) -> bool:
    """Whether the logits are just what the head makes of the features."""
    again = through_head(given, head)
    return again is not None and torch.allclose(again.logits, given.logits, rtol=1e-3, atol=1e-3)


def by_name(given: Answers, own: Sequence[str], names: Sequence[str]) -> Answers:
    """Logits of a model with classes ``own`` in the order of ``names``; a class it lacks gets minus infinity."""
    logits = torch.full((len(given.logits), len(names)), -torch.inf)
    column = {name: number for number, name in enumerate(own)}
    known = [number for number, name in enumerate(names) if name in column]
    logits[:, known] = given.logits[:, [column[names[number]] for number in known]]
    return replace(given, logits=logits)


@dataclass(frozen=True)
class ClassCounts:
    """Labelled images by class, of C classes.

    Attributes:
        hits: int64 ``(C,)``, images that are predicted as their class.
        totals: int64 ``(C,)``, images of the class.
        predicted: int64 ``(C,)``, images that are predicted as the class.
    """

    hits: NDArray[np.int64]
    totals: NDArray[np.int64]
    predicted: NDArray[np.int64]


def _told(given: Answers) -> tuple[Tensor, Tensor]:
    """Label and prediction of each image that has a label."""
    known = given.labels >= 0
    return given.labels[known], given.logits.argmax(1)[known]


def count(given: Answers) -> ClassCounts:
    """Hits, images and predictions of each class; images without a label are left out."""
    labels, told = _told(given)
    classes = given.logits.shape[1]
    parts = (labels[told == labels], labels, told)
    return ClassCounts(*(torch.bincount(part, minlength=classes).numpy() for part in parts))


def confusion(given: Answers, rows: Sequence[int] | None = None) -> NDArray[np.int64]:
    """Labels x predictions ``(len(rows), C)``; images without a label are left out.

    Args:
        given: Logits and labels.
        rows: The labels whose rows are wanted; None takes all, i.e. ``8 C^2`` bytes.
    """
    classes = given.logits.shape[1]
    rows = range(classes) if rows is None else rows
    place = torch.full((classes,), -1)
    place[torch.as_tensor(list(rows), dtype=torch.long)] = torch.arange(len(rows))
    labels, told = _told(given)
    wanted = place[labels] >= 0
    pairs = place[labels[wanted]] * classes + told[wanted]
    return torch.bincount(pairs, minlength=len(rows) * classes).reshape(len(rows), classes).numpy()


@dataclass(frozen=True)
class Confusion:
    """The part of a confusion matrix that is drawn.

    Attributes:
        classes: Ids of the classes.
        rows: int64 ``(len(classes), C)``, predictions of the images of those classes.
        forgotten: int64 ``(C,)``, predictions of the images of all forgotten classes together.
    """

    classes: list[int]
    rows: NDArray[np.int64]
    forgotten: NDArray[np.int64]


def confusions(before: Answers, after: Answers, ids: Sequence[int], most: int = 30) -> tuple[Confusion, Confusion]:
    """What is drawn of the predictions before and after: all classes, or, of more than ``most``, the forgotten ones ``ids`` and
    those that their images are taken for most often after."""
    gone = [_predictions_of(given, ids) for given in (before, after)]
    classes = list(range(len(gone[1])))
    if len(classes) > most:
        forgotten = set(ids)
        others = [int(i) for i in np.argsort(-gone[1], kind="stable")[: most + len(ids)] if int(i) not in forgotten]
        classes = sorted([*list(ids)[:most], *others[: max(0, most - len(ids))]])
    first, second = (
        Confusion(classes, confusion(given, classes), went) for given, went in zip((before, after), gone, strict=True)
    )
    return first, second


def _predictions_of(given: Answers, ids: Sequence[int]) -> NDArray[np.int64]:
    labels, told = _told(given)
    shown = torch.isin(labels, torch.as_tensor(list(ids), dtype=torch.long))
    return torch.bincount(told[shown], minlength=given.logits.shape[1]).numpy()


def accuracies(counts: ClassCounts, ids: Sequence[int]) -> dict[str, float | None]:
    """``forget_acc`` and ``remain_acc`` in percent, over the images of those classes; None where there are none."""
    forgotten = np.zeros(len(counts.totals), dtype=bool)
    forgotten[list(ids)] = True
    return {
        name: _percent(counts.hits[rows].sum(), counts.totals[rows].sum())
        for name, rows in (("forget_acc", forgotten), ("remain_acc", ~forgotten))
    }


def per_class(counts: ClassCounts, names: Sequence[str]) -> dict[str, float | None]:
    """Accuracy of each class in percent."""
    return {name: _percent(counts.hits[i], counts.totals[i]) for i, name in enumerate(names)}


def row(
    train: Answers | None, test: Answers | None, original: Answers | None, names: Sequence[str], ids: Sequence[int]
) -> dict[str, Any]:
    """One row of the table; None is "not measured".

    ``h_mean`` is the harmonic mean of the remaining accuracy and of the drop in forgotten accuracy, both on test images
    (GS-LoRA, CVPR 2024, arXiv 2403.11530, used by DELETE). ``worst_drop`` is the remaining class that lost most.

    Args:
        train: Answers to training images (Acc_f, Acc_r of the paper).
        test: Answers to test images (Acc_ft, Acc_rt).
        original: The original's answers to the test images.
        names: Class names.
        ids: The forgotten classes.
    """
    nothing: dict[str, float | None] = {"forget_acc": None, "remain_acc": None}
    out: dict[str, Any] = {
        "train": nothing if train is None else accuracies(count(train), ids),
        "test": nothing,
        "h_mean": None,
        "per_class": None,
        "worst_drop": None,
        "counts": counts(train, test, original, ids),
    }
    if test is None or original is None:
        return out
    after, before = count(test), count(original)
    out["test"] = now = accuracies(after, ids)
    out["per_class"] = per_class(after, names)
    then = accuracies(before, ids)["forget_acc"]
    if then is not None and now["forget_acc"] is not None and now["remain_acc"] is not None:
        drop = max(0.0, then - now["forget_acc"])
        total = drop + now["remain_acc"]
        out["h_mean"] = round(2 * drop * now["remain_acc"] / total, 2) if total else 0.0
    was, forgotten = per_class(before, names), set(ids)
    drops = {
        name: round(was[name] - value, 2)  # type: ignore[operator]
        for i, (name, value) in enumerate(out["per_class"].items())
        if i not in forgotten and value is not None
    }
    if drops:
        worst = max(drops, key=drops.__getitem__)
        out["worst_drop"] = {"class": worst, "points": drops[worst]}
    return out


def probes(train: Answers, test: Answers, ids: Sequence[int], shots: int = 5) -> dict[str, float | None]:
    """How well the forgotten classes are read from the features by whoever has labelled training images, in percent.

    ``linear`` is a linear classifier over all classes, fitted on ``train``; ``prototype`` the nearest of prototypes of
    ``shots`` examples. Accuracy on the test images of ``ids``; None where the model has no rows of features.
    """
    if train.features is None or test.features is None:
        return {"linear": None, "prototype": None}
    known = train.labels >= 0
    x, y = train.features[known].numpy(), train.labels[known].numpy()
    x_test, y_test = test.features.numpy(), test.labels.numpy()
    shown = np.isin(y_test, list(ids))
    probe = fit_linear_probe(x, y)
    linear = float((probe.predict(x_test[shown]) == y_test[shown]).mean())
    near = prototype_accuracy(x, y, x_test, y_test, shots)
    weights = {i: int((y_test == i).sum()) for i in ids if i in near}
    prototype = sum(near[i] * count for i, count in weights.items()) / max(1, sum(weights.values()))
    return {"linear": round(100 * linear, 2), "prototype": round(prototype, 2)}


def became(found: Confusion, names: Sequence[str]) -> dict[str, float]:
    """What the forgotten classes' images are taken for: percent by prediction, most frequent first, zeros left out."""
    went = found.forgotten
    order = [int(i) for i in np.argsort(-went, kind="stable") if went[i] > 0]
    return {names[i]: round(100 * float(went[i] / went.sum()), 2) for i in order}


def _percent(hits: Any, total: Any) -> float | None:
    return round(100 * float(hits) / float(total), 2) if total else None
