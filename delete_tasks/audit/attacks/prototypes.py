"""Few-shot attacks: nearest prototypes, and class weights replaced by prototypes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ...evaluation.metric import Measured, NotMeasured, Row
from ..attack import chance_of_classes, context_of, features_of, members, predictions_of, reader, samples_of, share_of
from ..probes import Features, Labels, normalize, prototype_hits

SHOTS = (1, 5, 10)
ROW_SHOTS, ROW_DRAWS = 10, 20
ALPHAS = tuple(round(float(alpha), 4) for alpha in np.geomspace(0.1, 30, 16))  # times the largest class weights' norm
SOURCE = "arXiv 2506.01318"


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


ATTACKS = (
    *(
        reader(
            f"prototypes_{shots}",
            f"forgotten classes as the nearest prototype of {shots} sample{'s' if shots > 1 else ''}",
            compute=partial(read_by_prototypes, shots),
            column=f"{shots}-shot prototypes",
            of_features=True,
            level="quick" if shots == 5 else "full",
            source=SOURCE,
            chance=chance_of_classes,
        )
        for shots in SHOTS
    ),
    reader(
        "replaced_row",
        f"forgotten classes predicted once their rows are prototypes of {ROW_SHOTS} samples",
        compute=read_by_replaced_row,
        column="row replaced",
        level="full",
        source=SOURCE,
        chance=lambda row: round(100 / len(row.names), 2),
    ),
)
