"""confusion_before_after.png: what each class is taken for, by the original and by the erased model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from delete_tasks.figure import new_figure, save_figure


def draw_confusions(
    path: str | os.PathLike[str],
    shown: Sequence[int],
    before: Tensor,
    after: Tensor,
    names: Sequence[str],
    forgotten: Sequence[int],
) -> None:
    """Draw two confusion matrices side by side, rows in percent, on one colour scale; forgotten classes are marked. What is
    ``shown``, ``before`` and ``after``, is from :func:`delete_images.evaluate.confusions`."""
    side = max(4.0, 0.45 * len(shown) + 1.5)
    figure = new_figure((2 * side + 1, side + 0.6), "images")
    axes = figure.subplots(1, 2)
    image: Any = None
    titles = ("before: the original model", "after: the erased model")
    for axis, matrix, title in zip(axes, (before, after), titles, strict=True):
        rows = matrix.numpy()
        percent = 100 * rows[:, shown] / np.maximum(rows.sum(1, keepdims=True), 1)
        image = axis.imshow(percent, vmin=0, vmax=100, cmap="Blues")
        _label(axis, [names[i] for i in shown], [place for place, i in enumerate(shown) if i in forgotten])
        axis.set_title(title)
        axis.set_xlabel("class that the model predicts")
        if len(shown) <= 20:
            for y, row in enumerate(percent):
                for x, value in enumerate(row):
                    if value >= 0.5:
                        colour = "white" if value > 55 else "black"
                        axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes[0].set_ylabel("class that the images show")
    few = f". {len(shown)} of {len(names)} classes are shown, those predicted most for them"
    few = few if len(shown) < len(names) else ""
    forgotten_names = ", ".join(names[i] for i in list(forgotten)[:3]) + (", ..." if len(forgotten) > 3 else "")
    figure.suptitle(
        f"What the images of each class are predicted as. To be forgotten, in orange: {forgotten_names}{few}"
    )
    figure.colorbar(image, ax=axes, label="percent of the images in that row", shrink=0.8)
    save_figure(figure, path)


def _label(axis: Any, names: Sequence[str], marked: Sequence[int]) -> None:
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    for place in marked:
        for tick in (axis.get_xticklabels()[place], axis.get_yticklabels()[place]):
            tick.set_color("tab:orange")
            tick.set_fontweight("bold")
