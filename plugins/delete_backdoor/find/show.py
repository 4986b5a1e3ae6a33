"""Output of ``backdoor find``: tables, sentences, and the picture of both clusters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from delete_images.data.opening import ImageData
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec
from delete_tasks.display.figure import drawable, new_figure, save_figure
from delete_tasks.display.table import Column, Table

from ..picture import SHOWN, cell, draw_image, percent
from .clusters import ClassClusters
from .evidence import CLUSTERS
from .invert import INDEX, TIMES, Inversion

NO_ALL_CLEAR = (
    "That is no all-clear: find does not see triggers that warp the image (WaNet) or change from image to image if the features "
    "do not hold them apart, nor a pattern in fewer than 20 images of a class."
)


def show_ranking(content: Mapping[str, Any], total: int, console: Console) -> None:
    """Print the table of classes, the evidence of a suspicious class's clusters, the decision, and precision and recall."""
    title = f"Clusters of {total} samples ({content['flagged']} flagged as poisoned)"
    table = Table(["samples", "smaller cluster, %", "silhouette", "suspicious"], "label", title)
    for name, split in content["classes"].items():
        cells = [str(split["samples"]), f"{split['smaller_cluster']:.1f}", f"{split['silhouette']:.3f}"]
        table.add(name, [*cells, "yes" if split["suspicious"] else "no"])
    table.show(console, wrap=True, hint="the terminal is too narrow")
    suspicious = content["suspicious"]
    if suspicious is None:
        console.print(f"No class's clusters stand out: nothing is flagged. {NO_ALL_CLEAR}")
    else:
        _show_clusters(suspicious, console)
    if content["rates"] is not None:
        precision, recall = content["rates"]["precision"], content["rates"]["recall"]
        console.print(
            f"Against the truth in the file: precision {percent(precision)} (share of flagged samples that are poisoned), recall "
            f"{percent(recall)} (share of poisoned samples that are flagged)"
        )


# Key of Evidence, its words in the table and in the picture, and its sign.
MEASURES = (
    ("samples", "samples", "", None),
    ("moved_by_pattern", "others sent here by a shared pattern, %", "its pattern sends {}% of others here", "pattern"),
    ("kept_cropped", "label kept under crops and flips, %", "label kept by {}% of crops and flips", "hangs_on_place"),
    ("kept_coloured", "label kept under changes of colour, %", "{}% of changes of colour", "hangs_on_place"),
    ("kept_blended", "label kept in blends with others, %", "{}% of blends with others", "wins_blends"),
    ("variance", "variance of the features", "variance of the features {}", "varies"),
)


def _show_clusters(suspicious: Mapping[str, Any], console: Console) -> None:
    poison, clusters = suspicious["poison"], suspicious["clusters"]
    undecided = f"Cannot tell: the clusters of '{suspicious['class']}' are further apart than those of other classes"
    title = undecided if poison is None else f"The clusters of '{suspicious['class']}' stand out; which is the poison?"
    table = Table([*CLUSTERS, Column("poison by this", words=True)], "", title)
    for key, words, _, sign in MEASURES:
        cluster = (suspicious["signs"][sign] or "-") if sign else ""
        table.add(words, [*(cell(clusters[name][key], key == "samples") for name in CLUSTERS), cluster])
    console.print()
    table.show(console, wrap=True, hint="the terminal is too narrow")
    if suspicious["decided_by"] == "user":
        console.print(f"The {poison} one is flagged, as --flag says.")
    elif poison is not None:
        by = "these signs" if suspicious["split_by"] == "features" else "its shared pattern, and crops or blends"
        console.print(f"The {poison} one is the poison by {by}, and is flagged.")
    else:
        console.print(
            "These signs do not say that either is poison, and clusters of clean images can be as far apart: nothing is flagged. "
            "Look at the images of both in the picture named below. If one is poison, run find again with --flag smaller or "
            f"--flag larger. {NO_ALL_CLEAR}"
        )


def draw_clusters(path: Path, data: ImageData, split: ClassClusters, suspicious: Mapping[str, Any]) -> None:
    """Draw both clusters of a suspicious class, with the evidence: ``suspicious``, the part of a ranking about them."""
    figure = new_figure((13, 5.6), "backdoor")
    for row, name in zip(figure.subfigures(2, 1), CLUSTERS, strict=True):
        members, figures = getattr(split, name), suspicious["clusters"][name]
        axes = row.subplots(1, SHOWN)
        for axis, index in zip(axes, members[:: max(1, len(members) // SHOWN)], strict=False):
            draw_image(axis, data[index][0], "")
        for axis in axes:
            axis.set_axis_off()
        flagged = " - flagged as poison" if suspicious["poison"] == name else ""
        first, *more = [
            words.format(cell(figures[key])) for key, _, words, sign in MEASURES if sign and figures[key] is not None
        ]
        title = f"The {name} cluster{flagged}: {figures['samples']} samples, {first}\n{', '.join(more)}"
        row.suptitle(title, fontsize=9)
    figure.suptitle(f"Images labelled '{suspicious['class']}': two clusters, by {suspicious['split_by']}", fontsize=10)
    save_figure(figure, path)


def show_inversion(found: Inversion, console: Console) -> None:
    """Print the verdict of a trigger inversion."""
    says = "the model looks BACKDOORED" if found.backdoored else "no backdoor was seen in the model"
    console.print(
        f"Trigger inversion: {says}. Class '{found.target}' needs the smallest mask: {found.sizes[found.target]:.1f} pixels, "
        f"anomaly index {found.index:.1f} ({INDEX:g} or more: a backdoor), {found.times:.1f} times less than the next class "
        f"({TIMES:g} or more). It sees patches, not every pattern."
    )


def draw_inversion(path: Path, data: ImageData, spec: ModelSpec, found: Inversion) -> None:
    """Draw the smallest mask of each class, and the trigger of the class that needs least, alone and on images."""
    figure, trigger = new_figure((13, 3.6), "backdoor"), cast(Any, found.trigger)
    bars, *axes = figure.subplots(1, SHOWN - 1, width_ratios=[2.5, *[1] * (SHOWN - 2)])
    colours = ["tab:red" if name == found.target and found.backdoored else "tab:blue" for name in found.sizes]
    bars.barh(drawable(list(found.sizes)), list(found.sizes.values()), color=colours)
    bars.invert_yaxis()
    bars.set_title("Smallest mask of each class, pixels", fontsize=8)
    bars.tick_params(labelsize=7)
    draw_image(axes[0], (255 * (1 - trigger.affine[0])).astype(np.uint8), "mask")
    draw_image(axes[1], trigger.stamp(np.zeros_like(as_seen(spec, data[0][0]))), "mask x pattern")
    for axis, index in zip(axes[2:], range(0, len(data), max(1, len(data) // SHOWN)), strict=False):
        draw_image(axis, trigger.stamp(as_seen(spec, data[index][0])), "")
    verdict = "looks backdoored" if found.backdoored else "no backdoor was seen"
    figure.suptitle(f"Trigger inversion: {verdict} ('{found.target}', index {found.index:.1f})", fontsize=10)
    save_figure(figure, path)
