"""Attention pictures: the input, the original's map and the erased model's map side by side, on the original's scale."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..display.figure import drawable, new_figure, save_figure
from ..errors import require
from .gradcam import Map
from .measure import ComparedSample

COLOURS = "inferno"
SUFFIXES = (".png", ".jpg", ".jpeg")
SHADE = 0.35  # brightness of the input below a map
_ENLARGED_BELOW = 80  # pixels: smaller pictures are shown with hard pixel edges


def overlay(picture: Any, positive: Map, scale: float) -> Any:
    """Blend a nonnegative map ``(H, W)``, clipped at ``scale``, over a darkened uint8 picture: RGB ``(H, W, 3)``, 0 to 1."""
    matplotlib: Any = require("matplotlib", "audit")
    strength = np.clip(positive / scale, 0, 1) if scale > 0 else np.zeros_like(positive)
    colour = matplotlib.colormaps[COLOURS](strength)[..., :3]
    grey = SHADE * np.repeat(picture.mean(2, keepdims=True) / 255, 3, axis=2)
    opacity = np.sqrt(strength)[..., None]  # so that weak attention can still be seen
    return (1 - opacity) * grey + opacity * colour


def draw(path: str | os.PathLike[str], comparisons: Sequence[ComparedSample], class_names: Sequence[str]) -> None:
    """Write panels, a line per comparison (all of the same models) in its original's scale; :data:`SUFFIXES` are the formats."""
    names, class_names = list(comparisons[0].maps), drawable(class_names)
    columns = 1 + len(names) + any(compared.own_map is not None for compared in comparisons)
    height, width = comparisons[0].sample.picture.shape[:2]
    panel, rows = 2.6 if width < 2 * _ENLARGED_BELOW else 3.2, len(comparisons)
    tall = panel * height / width
    wide, high = columns * panel + 0.9, rows * (tall + 0.45) + 0.5
    # Sizes are known: a layout engine's passes over all texts would take most of the time.
    figure = new_figure((wide, high), "audit", dpi=100, layout=None)
    grid = {"left": 0.06 / wide, "right": 1 - 0.9 / wide, "top": 1 - 0.4 / high, "bottom": 0.55 / high, "wspace": 0.04,
            "hspace": 0.45 / tall}  # fmt: skip
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid, subplot_kw={"xticks": (), "yticks": ()})
    for compared, line in zip(comparisons, axes, strict=True):
        _row(compared, line, names, class_names)
    for axis, text in zip(axes[0], ("input", *names, "erased model's own prediction"), strict=False):
        axis.set_title(f"{text}\n{axis.get_title()}" if axis.get_title() else text, fontsize=9)
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), cax=figure.add_axes((1 - 0.8 / wide, 0.25, 0.13 / wide, 0.5)))
    bar.set_label("positive Grad-CAM; 1 is the original's maximum in the row", fontsize=8)
    save_figure(figure, path, pil_kwargs={"optimize": True} if Path(path).suffix == ".png" else {"quality": 88})


def _row(compared: ComparedSample, line: Any, names: Sequence[str], class_names: Sequence[str]) -> None:
    sample = compared.sample
    small = sample.picture.shape[1] < _ENLARGED_BELOW
    line[0].imshow(sample.picture, interpolation="nearest" if small else "antialiased")
    kind = "forgotten" if sample.removed else "kept"
    line[0].set_xlabel(sample.caption or f"map of: {class_names[sample.class_id]} ({kind})", fontsize=8)
    scale = float(np.maximum(compared.maps[names[0]], 0).max())
    for number, name in enumerate(names, 1):
        line[number].imshow(overlay(sample.picture, np.maximum(compared.maps[name], 0), scale))
        line[number].set_xlabel(_caption(compared, name, names[0], class_names), fontsize=8)
    if compared.own_map is not None:
        line[-1].imshow(overlay(sample.picture, np.maximum(compared.own_map, 0), scale))
        line[-1].set_xlabel(f"map of: {class_names[compared.predicted['erased']]}", fontsize=8)
    for axis in line:
        if sample.region is not None and axis.images:
            axis.contour(sample.region.astype(float), levels=[0.5], colors="cyan", linewidths=0.8)
        if not axis.images:
            axis.set_axis_off()


def _caption(compared: ComparedSample, name: str, first: str, class_names: Sequence[str]) -> str:
    prediction = f"predicts {class_names[compared.predicted[name]]}" if name in compared.predicted else ""
    if name == first:
        figure = "" if (inside := compared.share[name]) is None else f"{inside:.0f}% in the region"
    elif compared.sample.removed:
        ratio = compared.ratio[name]
        figure = "attention left: " + ("not measured" if ratio is None else f"{100 * ratio:.0f}% of the original's")
        figure += ",\nby the original's last layer" * (name in compared.with_original_head)
    else:
        correlation = compared.correlation[name]
        figure = f"correlation: {'not measured' if correlation is None else f'{correlation:.2f}'}"
    # On one line, long class names would overlap the next panel.
    return ",\n".join(filter(None, (prediction, figure)))
