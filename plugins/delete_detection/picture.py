"""Picture boxes_before_after.jpg: images with the boxes of the original and of the erased model."""

from collections.abc import Sequence
from pathlib import Path

import torch

from delete_tasks.display.figure import drawn, new_figure, save_figure
from delete_tasks.fileio.images import read_image

from .data import Pictures
from .model import SEEN
from .parts import Boxes

MOST = 3  # images


def draw_boxes(
    path: Path,
    pictures: Pictures,
    before: Sequence[Boxes],
    after: Sequence[Boxes],
    ids: Sequence[int],
    names: Sequence[str],
) -> None:
    """Draw the images with most boxes of the forgotten classes and of others, before above and after below."""
    forgotten = torch.tensor(list(ids))

    def interest(boxes: Boxes) -> int:
        seen = torch.isin(boxes["labels"][boxes["scores"] > SEEN], forgotten)
        return min(int(seen.sum()), int((~seen).sum()))

    chosen = sorted(range(len(pictures)), key=lambda number: -interest(before[number]))[:MOST]
    figure = new_figure((4.2 * len(chosen), 6.6), "detection")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, number in enumerate(chosen):
        image = read_image(pictures.items[number])
        for axis, boxes, title in zip(
            axes[:, column], (before[number], after[number]), ("before", "after"), strict=True
        ):
            axis.imshow(image)
            axis.set_axis_off()
            axis.autoscale(False)  # boxes may reach beyond the image
            axis.set_title(title)
            for box, score, label in zip(
                boxes["boxes"].tolist(), boxes["scores"], boxes["labels"].tolist(), strict=True
            ):
                if score <= SEEN:
                    continue
                left, top, right, bottom = box
                colour = "tab:orange" if label in ids else "deepskyblue"
                axis.plot(
                    [left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1.6
                )
                style = {"facecolor": colour, "edgecolor": "none", "pad": 1}
                axis.text(left, top, drawn(names[label]), fontsize=7, color="white", va="bottom", bbox=style)
    figure.suptitle(f"Boxes above a score of {SEEN}; forgotten, in orange: {', '.join(names[i] for i in ids)}")
    save_figure(figure, path)
