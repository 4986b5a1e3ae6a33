"""Probes on pixels in the proportion in which they occur: the IoU of the regions that they give the forgotten classes.

The other probes are measured on equally many pixels of each class, so pixels that they wrongly assign to a forgotten class hardly
count. The IoU counts them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...evaluation.functional import confusion_matrix, forgotten_iou, intersection_over_union, mean_iou
from ...evaluation.metric import Measured, NotMeasured, Row
from ..attack import DRAWS, Attack, Found, features_of, predictions_of, reader
from ..probes import fit_linear_probe
from .probes import PERCEPTRON, VOTE, fit_neighbours, fit_perceptron

TRAIN, TEST = "train_regions", "test_regions"


def read_regions(fit: Callable[..., Any], row: Row) -> Measured:
    """Measure the IoU in percent of the forgotten classes, as a probe fitted on training pixels reads held-out ones: the mean
    over them, with a bootstrap interval over pixels; ``details`` holds each class's and the others' mean. Raise
    :class:`NotMeasured` if the training pixels show no forgotten class beside another, or the held-out ones no forgotten class.
    """
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
    return Found(value, len(test.labels), _interval(confusion, ids), details=details)


def _interval(confusion: Tensor, ids: list[int]) -> tuple[float, float]:
    """Compute the 95% bootstrap interval of the forgotten classes' mean IoU, drawing pixels by their cells of the confusion."""
    count = int(confusion.sum())
    shares = confusion.double().flatten().numpy() / count
    draws = np.random.default_rng(0).multinomial(count, shares, DRAWS).reshape(DRAWS, *confusion.shape)
    values = [forgotten_iou(torch.from_numpy(draw), ids) for draw in draws]
    low, high = np.percentile([value for value in values if value is not None], [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _probe(name: str, title: str, column: str, fit: Callable[..., Any]) -> Attack:
    return reader(
        name,
        f"IoU of the forgotten classes as {title} reads them from the last features",
        compute=partial(read_regions, fit),
        of="held-out pixels",
        column=column,
        of_features=True,
        level="full",
        needs=TEST,
    )


ATTACKS = (
    _probe("linear_probe_iou", "a linear probe", "linear probe, IoU", fit_linear_probe),
    _probe("hidden_probe_iou", PERCEPTRON, "hidden probe, IoU", fit_perceptron),
    _probe("knn_probe_iou", VOTE, "k-NN, IoU", fit_neighbours),
)
