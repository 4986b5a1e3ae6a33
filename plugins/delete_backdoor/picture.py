"""backdoor.png: poisoned samples that were set aside, with what the model says of them before and after; and the watch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from delete_tasks.errors import require
from delete_tasks.pictures import save_figure

from .checks import predictions

SHOWN = 8


def draw(
    path: str | os.PathLike[str], dataset: Any, original: nn.Module, cleaned: nn.Module, results: Mapping[str, Any]
) -> None:
    """Draw and write the picture.

    Args:
        path: Where the PNG goes.
        dataset: A :class:`delete_backdoor.datasets.BackdoorDataset`.
        original, cleaned: Networks in eval mode.
        results: What results.json holds.
    """
    require("matplotlib", "backdoor")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    held = dataset.held_poisoned.subset(range(min(SHOWN, len(dataset.held_poisoned))))
    before, after = (predictions(net, dataset.spec, held, "Picture") for net in (original, cleaned))
    names, target = dataset.class_names, dataset.target
    figure = Figure(figsize=(13, 5.2), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, SHOWN, height_ratios=(1, 1.2))
    for place in range(len(held)):
        axis = figure.add_subplot(grid[0, place])
        axis.imshow(held[place][0], interpolation="nearest")
        axis.set_axis_off()
        colour = "tab:red" if after[place] == target else "tab:green"
        axis.set_title(f"{names[before[place]]}\n-> {names[after[place]]}", fontsize=8, color=colour)
    _draw_watch(figure.add_subplot(grid[1, : SHOWN // 2]), results)
    _draw_rows(figure.add_subplot(grid[1, SHOWN // 2 :]), results)
    figure.suptitle(
        f"Poisoned samples set aside: original -> cleaned (target '{names[target]}'); verdict: {results['verdict']}"
    )
    save_figure(figure, path)


def _draw_watch(axis: Any, results: Mapping[str, Any]) -> None:
    readings = results["watch"]["readings"]
    for key, label, colour in (
        ("to_target", "poisoned samples at the target", "tab:red"),
        ("agreement", "agreement with the original", "tab:blue"),
        ("target_kept", "target's probability kept", "tab:orange"),
    ):
        points = [(reading["step"], reading[key]) for reading in readings if reading[key] is not None]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, color=colour)
    axis.set_xlabel("step")
    axis.set_ylabel("percent, samples set aside")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)


def _draw_rows(axis: Any, results: Mapping[str, Any]) -> None:
    rows = {name: row for name, row in results["rows"].items() if row and row.get("acc") is not None}
    if not rows:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "test figures: not measured", ha="center", va="center")
        return
    for shift, key, colour in ((-0.27, "acc", "tab:blue"), (0.0, "asr", "tab:red"), (0.27, "ra", "tab:green")):
        places = [(place + shift, row[key]) for place, row in enumerate(rows.values()) if row[key] is not None]
        if places:
            bars = axis.bar(*zip(*places, strict=True), width=0.25, color=colour, label=key.upper())
            axis.bar_label(bars, fmt="%.1f", fontsize=7)
    axis.set_xticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_ylabel("percent, test images")
    axis.set_ylim(0, 112)
    axis.legend(fontsize=8, ncols=3)
