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
    for column, name in enumerate(names):
        if name in own:
            logits[:, column] = given.logits[:, list(own).index(name)]
    return replace(given, logits=logits)


def confusion(given: Answers) -> NDArray[np.int64]:
    """Labels x predictions ``(C, C)``; images without a label are left out."""
    classes = given.logits.shape[1]
    known = given.labels >= 0
    pairs = given.labels[known] * classes + given.logits[known].argmax(1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).numpy()


def accuracies(matrix: NDArray[np.int64], ids: Sequence[int]) -> dict[str, float | None]:
    """``forget_acc`` and ``remain_acc`` in percent, over the images of those classes; None where there are none."""
    hits, total = np.diag(matrix), matrix.sum(1)
    others = [i for i in range(len(matrix)) if i not in ids]
    return {
        name: _percent(hits[list(rows)].sum(), total[list(rows)].sum())
        for name, rows in (("forget_acc", ids), ("remain_acc", others))
    }


def per_class(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, float | None]:
    """Accuracy of each class in percent."""
    return {name: _percent(matrix[i, i], matrix[i].sum()) for i, name in enumerate(names)}


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
        "train": nothing if train is None else accuracies(confusion(train), ids),
        "test": nothing,
        "h_mean": None,
        "per_class": None,
        "worst_drop": None,
        "counts": counts(train, test, original, ids),
    }
    if test is None or original is None:
        return out
    matrix, before = confusion(test), confusion(original)
    out["test"] = now = accuracies(matrix, ids)
    out["per_class"] = per_class(matrix, names)
    then = accuracies(before, ids)["forget_acc"]
    if then is not None and now["forget_acc"] is not None and now["remain_acc"] is not None:
        drop = max(0.0, then - now["forget_acc"])
        total = drop + now["remain_acc"]
        out["h_mean"] = round(2 * drop * now["remain_acc"] / total, 2) if total else 0.0
    was = per_class(before, names)
    drops = {
        name: round(was[name] - value, 2)  # type: ignore[operator]
        for i, (name, value) in enumerate(out["per_class"].items())
        if i not in ids and value is not None
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


def became(matrix: NDArray[np.int64], names: Sequence[str], ids: Sequence[int]) -> dict[str, float]:
    """What the forgotten classes' images are taken for: percent by prediction, most frequent first, zeros left out."""
    went = matrix[list(ids)].sum(0)
    order = [int(i) for i in np.argsort(-went, kind="stable") if went[i] > 0]
    return {names[i]: round(100 * float(went[i] / went.sum()), 2) for i in order}


def _percent(hits: Any, total: Any) -> float | None:
    return round(100 * float(hits) / float(total), 2) if total else None
