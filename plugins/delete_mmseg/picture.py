"""before_after.png: a few test images as the original and the erased model see them."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delete_tasks.display.figure import new_figure, save_figure

Image = NDArray[np.uint8]


def choose_images(dataset: Any, forget_ids: Sequence[int], count: int = 4, candidates: int = 60) -> list[int]:
    """Choose up to ``count`` images, spread over the dataset, whose labels show most of the forgotten classes."""
    from .labels import data_info, leaf, loader_of

    stride = max(1, len(dataset) // candidates)
    shown: list[tuple[float, int]] = []
    for index in range(0, len(dataset), stride):
        label = loader_of(leaf(dataset, index)[0]).transform(data_info(dataset, index))["gt_seg_map"]
        shown.append((float(np.isin(label, list(forget_ids)).mean()), index))
    # The best of each stretch of the dataset, since neighbours in a video look alike.
    stretches = np.array_split(np.arange(len(shown)), min(count, len(shown)))
    return [max((shown[i] for i in stretch), key=lambda pair: pair[0])[1] for stretch in stretches]


def draw(
    path: str | os.PathLike[str] | io.BytesIO,
    rows: Sequence[tuple[Image, Image, Image]],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    forgotten: Sequence[int],
) -> None:
    """Draw rows of (input, original's prediction, erased prediction) with one palette and a legend.

    Args:
        path: Where the PNG goes: a file, or memory.
        rows: RGB ``(H, W, 3)`` and two maps of class ids ``(H, W)``, uint8.
        names: Class names.
        palette: RGB per class, 0..255.
        forgotten: Ids of the forgotten classes, marked in the legend.
    """
    colours = np.asarray(palette, np.uint8)
    height, width = rows[0][0].shape[:2]
    panel = 4.2
    figure = new_figure((3 * panel, len(rows) * panel * height / width + 1.1), "segmentation")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for picture, axis in zip((row[0], colours[row[1]], colours[row[2]]), line, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(
        axes[0], ("test image", "original model's prediction", "erased model's prediction"), strict=True
    ):
        axis.set_title(title)
    shown = {int(i) for _, before, after in rows for i in (*np.unique(before), *np.unique(after))}
    from matplotlib.patches import Patch

    patches = [
        # matplotlib leaves out labels that begin with '_', as in '_background_'.
        Patch(color=colours[i] / 255, label=f" {names[i]} (forgotten)" if i in forgotten else f" {names[i]}")
        for i in sorted(shown | set(forgotten))
    ]
    legend = figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a '$' in a name is a '$'
    if isinstance(path, io.BytesIO):
        figure.savefig(path)
    else:
        save_figure(figure, path)
