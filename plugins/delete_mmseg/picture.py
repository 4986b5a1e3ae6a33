"""Picture before_after.png: a few test images with the predictions of the original and the erased model."""

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from numpy.typing import NDArray

from delete_tasks.display.figure import drawable, new_figure

Image = NDArray[np.uint8]
MOST_SIDE = 2048  # pixels of a panel
LINES = 4  # images in the picture
TITLES = ("image", "original model's prediction", "erased model's prediction")


def image_and_predictions(*samples: Any) -> tuple[Image, ...]:
    """Read a predicted image, RGB ``(H, W, 3)``, and each prediction ``(H, W)``, uint8; fewer pixels above :data:`MOST_SIDE`."""
    predictions = [sample.pred_sem_seg.data.squeeze().cpu().numpy() for sample in samples]
    step = -(-max(predictions[0].shape) // MOST_SIDE)
    image = mmcv.imread(samples[0].metainfo["img_path"], channel_order="rgb")
    return image[::step, ::step].copy(), *(part[::step, ::step].astype(np.uint8) for part in predictions)


def draw(
    images: Sequence[tuple[Image, ...]], names: Sequence[str], palette: Sequence[Sequence[int]], ids: Sequence[int]
) -> Any:
    """Draw images, RGB ``(H, W, 3)``, beside two maps of class ids ``(H, W)``, uint8, of the original and the erased model, with
    one palette (RGB per class, 0 to 255) and a legend, in which the forgotten ``ids`` are marked."""
    names, colours = drawable(names), np.asarray(palette, np.uint8)
    height, width = images[0][0].shape[:2]
    panel = 4.2
    figure = new_figure((3 * panel, len(images) * panel * height / width + 1.1), "segmentation")
    axes = figure.subplots(len(images), 3, squeeze=False)
    for (image, before, after), line in zip(images, axes, strict=True):
        for panel_image, axis in zip((image, colours[before], colours[after]), line, strict=True):
            axis.imshow(panel_image, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title)
    present = {int(i) for _, before, after in images for i in (*np.unique(before), *np.unique(after))}
    from matplotlib.patches import Patch

    patches = [
        # matplotlib leaves out labels that begin with '_', as in '_background_'.
        Patch(color=colours[i] / 255, label=f" {names[i]} (forgotten)" if i in ids else f" {names[i]}")
        for i in sorted(present | set(ids))
    ]
    legend = figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a '$' in a name is a '$'
    return figure
