"""Readers of features: probes, nearest prototypes, class weights replaced by prototypes, and the original's last layer. Probes of
pixels are measured on equally many of each class, where pixels wrongly assigned to a forgotten class hardly count; the IoU of
regions counts them, since it is measured on pixels in the proportion in which they occur."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import require
from ...evaluation.functional import confusion_matrix, forgotten_iou, intersection_over_union, mean_iou
from ...evaluation.metric import Measured, NotMeasured, Row
from ..attack import (
    DRAWS,
    Attack,
    chance_of_classes,
    context_of,
    features_of,
    members,
    predictions_of,
    reader,
    samples_of,
    share_of,
)
from ..probes import Features, Labels, fit_hidden_probe, fit_linear_probe, normalize, prototype_hits

HIDDEN, NEIGHBOURS = 128, 10
FEW, DECAY = 5000, 0.1  # with fewer samples, a tenth of them is too few for early stopping
SHOTS = (1, 5, 10)
ROW_SHOTS, ROW_DRAWS = 10, 20
ALPHAS = tuple(round(float(alpha), 4) for alpha in np.geomspace(0.1, 30, 16))  # times the largest class weights' norm
SOURCE = "arXiv 2506.01318"
TRAIN, TEST = "train_regions", "test_regions"


def fit_neighbours(features: Features, labels: Labels) -> Any:
    """Fit the vote of the nearest training features by angle (scikit-learn); arguments as of :func:`fit_linear_probe`."""
    require("sklearn", "audit")
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), KNeighborsClassifier(min(NEIGHBOURS, len(labels)))).fit(features, labels)


def fit_perceptron(features: Features, labels: Labels) -> Any:
    """Fit a probe with a hidden layer; arguments as of :func:`fit_linear_probe`."""
    return fit_hidden_probe(features, labels, HIDDEN, decay=DECAY if len(labels) < FEW else None)


def read_forgotten(fit: Callable[[Features, Labels], Any], layer: str, row: Row) -> Measured:
    """Measure the percentage of held-out samples of the forgotten classes whose class a probe predicts."""
    features, labels = samples_of(row, "train", layer)
    test_features, test_labels = samples_of(row, "test", layer)
    predicted = fit(features, labels).predict(test_features)
    return share_of(predicted == test_labels, details={"trained_on": len(labels)})


def read_regions(fit: Callable[..., Any], row: Row) -> Measured:
    """Measure the IoU in percent of the forgotten classes, their mean with a bootstrap interval over pixels, as a probe fitted on
    training pixels reads held-out ones; ``details`` also has the others. Raise :class:`NotMeasured` if the training pixels show
    no forgotten class beside another, or the held-out ones no forgotten class."""
    train, test = predictions_of(row, TRAIN), predictions_of(row, TEST)
    ids, forgotten = list(row.ids), torch.tensor(list(row.ids))
    if torch.isin(train.labels, forgotten).all() or not torch.isin(train.labels, forgotten).any():
        raise NotMeasured("the training pixels that were drawn do not show a forgotten class beside another")
    if not torch.isin(test.labels, forgotten).any():
        raise NotMeasured("the held-out pixels that were drawn show no forgotten class")
    probe = fit(features_of(train), train.labels.numpy())
    confusion = confusion_matrix(test.labels, torch.from_numpy(probe.predict(features_of(test))).long(), len(row.names))
    value = forgotten_iou(confusion, ids)
    others = mean_iou(confusion, [i for i in range(len(row.names)) if i not in ids], 2)
    ious = zip(row.names, intersection_over_union(confusion).tolist(), strict=True)
    each = {name: round(iou, 2) for name, iou in ious if not np.isnan(iou)}
    details = {"trained_on": len(train.labels), "others": others, "classes": each}
    value = None if value is None else round(value, 2)
    return Measured(value, len(test.labels), _interval(confusion, ids), details=details)


def _interval(confusion: Tensor, ids: list[int]) -> tuple[float, float]:
    """Compute the 95% bootstrap interval of the forgotten classes' mean IoU, drawing pixels by their cells of the confusion."""
    count = int(confusion.sum())
    shares = confusion.double().flatten().numpy() / count
    draws = np.random.default_rng(0).multinomial(count, shares, DRAWS).reshape(DRAWS, *confusion.shape)
    values = [forgotten_iou(torch.from_numpy(draw), ids) for draw in draws]
    low, high = np.percentile([value for value in values if value is not None], [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def read_with_original_head(row: Row) -> Measured:
    """Measure the percentage of held-out samples of the forgotten classes whose class the original's last layer predicts."""
    context, mask, test = context_of(row), members(row, "test"), row.data["test"]
    if any(data["test"] is test for data in context.retrained):
        basis = "the features of a retrained model have another basis"
        raise NotMeasured(f"{basis}, unreadable for the original's last layer")
    if context.original_head is None:
        unknown = "the original's last layer is not known here"
        raise NotMeasured(f"{unknown}, or the logits are not its output on the features")
    with torch.no_grad():
        predicted = context.original_head(torch.from_numpy(features_of(test))).argmax(1)
    return share_of((predicted == test.labels).numpy()[mask])


def read_by_prototypes(shots: int, row: Row) -> Measured:
    """Measure the percentage of forgotten classes' held-out samples whose nearest prototype is their class's, over 20 draws."""
    features, labels = samples_of(row, "train")
    classes, counts = np.unique(labels, return_counts=True)
    few = [row.names[i] for i, count in zip(classes, counts, strict=True) if count < shots]
    if few:
        raise NotMeasured(f"{shots} samples of each class are needed, and there are fewer of {', '.join(few[:5])}")
    return share_of(prototype_hits(features, labels, *samples_of(row, "test"), shots))


def predict_with(
    features: Features, weight: Features, bias: Features, ids: Sequence[int], prototypes: Features, alpha: float
) -> Labels:
    """Predict classes, int64 ``(n,)``, of features ``(n, d)`` by a last layer, ``(C, d)`` and ``(C,)``, with the forgotten
    classes' weights set to ``alpha`` times unit prototypes ``(len(ids), d)``, and their biases to the mean of the others'."""
    weight, bias = weight.copy(), bias.copy()
    weight[list(ids)], bias[list(ids)] = alpha * prototypes, np.delete(bias, list(ids)).mean()
    return (features @ weight.T + bias).argmax(1)


def read_by_replaced_row(row: Row) -> Measured:
    """Measure the percentage of held-out samples of the forgotten classes whose class the last layer predicts with prototypes
    of 10 samples as class weights. ``alpha``, relative to the largest other class weights' norm, maximises the mean of the
    forgotten and the other classes' accuracy on the attacker's samples."""
    weight, bias = _linear_layer(context_of(row).head)
    features, labels = samples_of(row, "train")
    test, mask = predictions_of(row, "test"), members(row, "test")
    norm = float(np.linalg.norm(np.delete(weight, list(row.ids), 0), axis=1).max())
    forgotten = np.isin(labels, list(row.ids))
    generator, hits, accuracies, alphas = np.random.default_rng(0), np.zeros(int(mask.sum())), [], []
    test_features, test_labels = features_of(test), test.labels.numpy()
    others = (test_labels >= 0) & ~mask
    for _ in range(ROW_DRAWS):
        prototypes = np.stack([_prototype(features, labels, i, generator) for i in row.ids])

        def score(alpha: float, weights: Features = prototypes) -> float:
            right = predict_with(features, weight, bias, row.ids, weights, alpha * norm) == labels
            return float(right[forgotten].mean() + right[~forgotten].mean())

        alphas.append(max(ALPHAS, key=score))
        right = predict_with(test_features, weight, bias, row.ids, prototypes, alphas[-1] * norm) == test_labels
        hits += right[mask]
        accuracies.append(right[others].mean() if others.any() else np.nan)
    accuracy = round(100 * float(np.mean(accuracies)), 2) if others.any() else None
    details = {"alpha_median": float(np.median(alphas)), "shots": ROW_SHOTS, "other_classes_accuracy": accuracy}
    return share_of(hits / ROW_DRAWS, details=details)


def _prototype(features: Features, labels: Labels, label: int, generator: np.random.Generator) -> Features:
    indices = np.flatnonzero(labels == label)
    if len(indices) < ROW_SHOTS:
        needed = f"{ROW_SHOTS} samples of each forgotten class are needed"
        raise NotMeasured(f"{needed}, and there are {len(indices)} of one")
    return normalize(features[generator.choice(indices, ROW_SHOTS, replace=False)].mean(0, keepdims=True))[0]


def _linear_layer(head: Any) -> tuple[Features, Features]:
    """Return weight ``(C, d)`` and bias ``(C,)`` of a linear head."""
    if head is None or getattr(head, "weight", None) is None or head.weight.ndim != 2:
        raise NotMeasured("the logits are not the output of a linear last layer on the features")
    weight = head.weight.detach().float().cpu().numpy()
    bias = getattr(head, "bias", None)
    return weight, np.zeros(len(weight), np.float32) if bias is None else bias.detach().float().cpu().numpy()


LINEAR = ("a linear probe", fit_linear_probe)
VOTE = (f"the vote of {NEIGHBOURS} neighbours", fit_neighbours)
PERCEPTRON = ("a probe with a hidden layer", fit_perceptron)
_head = "forgotten classes as the original's last layer reads them from the features"
_rows = f"forgotten classes predicted once their rows are prototypes of {ROW_SHOTS} samples"
_by_class = partial(reader, of_features=True, chance=chance_of_classes)
_by_layer = partial(reader, chance=lambda row: round(100 / len(row.names), 2))


def _probe(name: str, column: str, probe: tuple[str, Any], level: str, layer: str = "last") -> Attack:
    of = "last features" if layer == "last" else "features of the stage before the last"
    title = f"forgotten classes as {probe[0]} reads them from the {of}"
    return _by_class(name, title, compute=partial(read_forgotten, probe[1], layer), column=column, level=level)


def _prototypes(shots: int) -> Attack:
    title = f"forgotten classes as the nearest prototype of {shots} sample{'s' if shots > 1 else ''}"
    compute, column = partial(read_by_prototypes, shots), f"{shots}-shot prototypes"
    level = "quick" if shots == 5 else "full"
    return _by_class(f"prototypes_{shots}", title, compute=compute, column=column, level=level, source=SOURCE)


def _regions(name: str, column: str, probe: tuple[str, Any]) -> Attack:
    title = f"IoU of the forgotten classes as {probe[0]} reads them from the last features"
    compute, of = partial(read_regions, probe[1]), "held-out pixels"
    return reader(name, title, compute=compute, of=of, column=column, of_features=True, level="full", needs=TEST)


ATTACKS = (
    _probe("linear_probe", "linear probe", LINEAR, "quick"),
    _probe("knn_probe", "k-NN", VOTE, "quick"),
    _probe("hidden_probe", "hidden-layer probe", PERCEPTRON, "full"),
    _probe("linear_probe_before", "linear, stage before", LINEAR, "quick", "before"),
    _probe("knn_probe_before", "k-NN, stage before", VOTE, "full", "before"),
    _probe("hidden_probe_before", "hidden, stage before", PERCEPTRON, "full", "before"),
    _by_layer("original_head", _head, compute=read_with_original_head, column="original head"),
    *map(_prototypes, SHOTS),
    _by_layer("replaced_row", _rows, compute=read_by_replaced_row, column="row replaced", level="full", source=SOURCE),
    _regions("linear_probe_iou", "linear probe, IoU", LINEAR),
    _regions("hidden_probe_iou", "hidden probe, IoU", PERCEPTRON),
    _regions("knn_probe_iou", "k-NN, IoU", VOTE),
)
