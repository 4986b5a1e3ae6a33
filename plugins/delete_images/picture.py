"""Picture confusion_before_after.png: predictions by class, of the original and of the erased model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delete_tasks.display.figure import drawable, new_figure, save_figure
from delete_tasks.errors import list_names
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.functional import confusion_matrix

MOST = 30  # classes in the picture


def draw_confusions(
    path: Path, before: Predictions, after: Predictions, names: Sequence[str], forgotten: Sequence[int]
) -> None:
    """Draw the matrices of :func:`confusions` side by side, rows in percent, on one scale; forgotten classes are marked."""
    classes, *matrices = confusions(before, after, forgotten)
    names = drawable(names)
    side = max(4.0, 0.45 * len(classes) + 1.5)
    figure = new_figure((2 * side + 1, side + 0.6), "images")
    axes = figure.subplots(1, 2)
    image: Any = None
    titles = ("before: the original model", "after: the erased model")
    for axis, matrix, title in zip(axes, matrices, titles, strict=True):
        rows = matrix.numpy()
        percent = 100 * rows[:, classes] / np.maximum(rows.sum(1, keepdims=True), 1)
        image = axis.imshow(percent, vmin=0, vmax=100, cmap="Blues")
        labels = [names[i] for i in classes]
        axis.set_xticks(range(len(classes)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(classes)), labels)
        for i, *ticks in zip(classes, axis.get_xticklabels(), axis.get_yticklabels(), strict=True):
            for tick in ticks if i in forgotten else ():
                tick.set(color="tab:orange", fontweight="bold")
        axis.set_title(title)
        axis.set_xlabel("predicted class")
        if len(classes) <= 20:
            for (y, x), value in np.ndenumerate(percent):
                if value >= 0.5:
                    colour = "white" if value > 55 else "black"
                    axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes[0].set_ylabel("class of the images")
    title = f"Predictions by class of the images. Forgotten, in orange: {list_names([names[i] for i in forgotten], 3)}"
    if len(classes) < len(names):
        title += f". {len(classes)} of {len(names)} classes, those predicted most for them"
    figure.suptitle(title)
    figure.colorbar(image, ax=axes, label="percent of the images in that row", shrink=0.8)
    save_figure(figure, path)


def confusions(before: Predictions, after: Predictions, ids: Sequence[int]) -> tuple[list[int], Tensor, Tensor]:
    """Choose the classes to draw, all or, of more than :data:`MOST`, the forgotten ``ids`` and those predicted most for them
    after erasing; return their ids, and counts of predictions for their images before and after, int64 ``(len(classes), C)``."""
    classes = list(range(after.logits.shape[1]))
    if len(classes) > MOST:
        forgotten, often = set(ids), torch.argsort(-predicted_as(after, ids), stable=True)[: MOST + len(ids)].tolist()
        others = [i for i in often if i not in forgotten]
        classes = sorted([*list(ids)[:MOST], *others[: max(0, MOST - len(ids))]])
    matrices = [confusion_matrix(*row.labelled, row.logits.shape[1], classes) for row in (before, after)]
    return classes, matrices[0], matrices[1]


def predicted_as(predictions: Predictions, ids: Sequence[int]) -> Tensor:
    """Count the predictions for the images of classes ``ids``, int64 ``(C,)``."""
    labels, predicted = predictions.labelled
    return torch.bincount(predicted[torch.isin(labels, torch.tensor(list(ids)))], minlength=predictions.logits.shape[1])
