"""Picture confusion_before_after.png: predictions by class, of the original and of the erased model."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delete_tasks.display.figure import new_figure, save_figure
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.functional import confusion_matrix


def draw_confusions(
    path: str | os.PathLike[str],
    shown: Sequence[int],
    before: Tensor,
    after: Tensor,
    names: Sequence[str],
    forgotten: Sequence[int],
) -> None:
    """Draw two confusion matrices side by side, rows in percent, on one colour scale; forgotten classes are marked. ``shown``,
    ``before`` and ``after`` are from :func:`confusions`."""
    side = max(4.0, 0.45 * len(shown) + 1.5)
    figure = new_figure((2 * side + 1, side + 0.6), "images")
    axes = figure.subplots(1, 2)
    image: Any = None
    titles = ("before: the original model", "after: the erased model")
    for axis, matrix, title in zip(axes, (before, after), titles, strict=True):
        rows = matrix.numpy()
        percent = 100 * rows[:, shown] / np.maximum(rows.sum(1, keepdims=True), 1)
        image = axis.imshow(percent, vmin=0, vmax=100, cmap="Blues")
        axis.set_xticks(range(len(shown)), [names[i] for i in shown], rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(shown)), [names[i] for i in shown])
        for place in (place for place, i in enumerate(shown) if i in forgotten):
            for tick in (axis.get_xticklabels()[place], axis.get_yticklabels()[place]):
                tick.set(color="tab:orange", fontweight="bold")
        axis.set_title(title)
        axis.set_xlabel("class that the model predicts")
        if len(shown) <= 20:
            for y, row in enumerate(percent):
                for x, value in enumerate(row):
                    if value >= 0.5:
                        colour = "white" if value > 55 else "black"
                        axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes[0].set_ylabel("class that the images show")
    selected = (
        f". {len(shown)} of {len(names)} classes, those predicted most for them" if len(shown) < len(names) else ""
    )
    forgotten_names = ", ".join(names[i] for i in list(forgotten)[:3]) + (", ..." if len(forgotten) > 3 else "")
    figure.suptitle(f"Predictions for the images of each class. Forgotten, in orange: {forgotten_names}{selected}")
    figure.colorbar(image, ax=axes, label="percent of the images in that row", shrink=0.8)
    save_figure(figure, path)


def confusions(
    before: Predictions, after: Predictions, ids: Sequence[int], most: int = 30
) -> tuple[list[int], Tensor, Tensor]:
    """Choose the classes to draw and count predictions: all classes or, of more than ``most``, the forgotten ones ``ids`` and
    those that the erased model predicts most for them.

    Returns:
        Ids of the classes; counts of predictions for their images before and after, int64 ``(len(classes), C)``.
    """
    classes = list(range(after.logits.shape[1]))
    if len(classes) > most:
        forgotten, often = set(ids), torch.argsort(-predicted_as(after, ids), stable=True)[: most + len(ids)].tolist()
        others = [i for i in often if i not in forgotten]
        classes = sorted([*list(ids)[:most], *others[: max(0, most - len(ids))]])
    matrices = [confusion_matrix(*row.labelled, row.logits.shape[1], classes) for row in (before, after)]
    return classes, matrices[0], matrices[1]


def predicted_as(predictions: Predictions, ids: Sequence[int]) -> Tensor:
    """Count the predictions for the images of classes ``ids``, int64 ``(C,)``."""
    labels, predicted = predictions.labelled
    return torch.bincount(predicted[torch.isin(labels, torch.tensor(list(ids)))], minlength=predictions.logits.shape[1])
