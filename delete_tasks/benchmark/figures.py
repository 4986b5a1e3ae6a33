"""Figures of a grid: box plot over seeds, number of classes, t-SNE, and accuracy against a linear probe."""

import textwrap
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..audit.pictures import draw_each, embed
from ..display.figure import drawn, new_figure, save_figure
from ..errors import RequestError, list_names, require
from .grid import CUT, ORIGINAL, RETRAINED
from .measure import FEATURES
from .table import Line, tables

MOST_TSNE = 32  # panels
MARKERS = {ORIGINAL: "s", CUT: "X", RETRAINED: "*"}


def draw_all(rows: Sequence[Line], root: Path) -> tuple[list[str], dict[str, str]]:
    """Draw all figures; return the names of their files, and the reasons why others could not be drawn."""
    jobs: dict[str, Any] = {"by_classes.png": partial(draw_by_classes, rows)}
    groups = tables(rows)
    for number, (_, group) in enumerate(groups, 1):
        suffix = f"_{number}" if len(groups) > 1 else ""
        jobs[f"seeds{suffix}.png"] = partial(draw_seeds, group)
        jobs[f"probe{suffix}.png"] = partial(draw_probe, group)
        jobs[f"tsne{suffix}.png"] = partial(draw_tsne, group, root)
    return draw_each(jobs, root)


def _title(rows: Sequence[Line]) -> str:
    return f"{rows[0].cell.network}: {rows[0].cell.group}"


def _set_title(figure: Any, text: str) -> None:
    """Set the title of a figure, in as many lines as its width needs."""
    figure.suptitle(textwrap.fill(text, int(13 * figure.get_figwidth())), fontsize=10)


def _colours(rows: Sequence[Line]) -> dict[str, Any]:
    palette = require("matplotlib", "images").colormaps["tab20"]
    methods = dict.fromkeys(row.cell.method for row in rows if not row.is_reference)
    colours = {method: palette(index % 20) for index, method in enumerate(methods)}
    return {**colours, ORIGINAL: "black", CUT: "dimgray", RETRAINED: "green"}


def draw_seeds(rows: Sequence[Line], path: Path) -> None:
    """Draw box plots of the test accuracies over seeds (figure 2)."""
    rows = [row for row in rows if row.values["acc_ft"] and row.values["acc_rt"]]
    if not rows:
        raise RequestError("no cell has test accuracies, so there is no box plot")
    figure = new_figure((10, 0.32 * len(rows) + 1.4), "images")
    titles = {"acc_ft": "forgotten classes", "acc_rt": "remaining classes"}
    for axis, (name, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        values = [row.values[name] for row in rows]
        axis.boxplot(values, orientation="horizontal", widths=0.6, medianprops={"color": "black"})
        for height, (row, dots) in enumerate(zip(rows, values, strict=True), 1):
            axis.plot(dots, [height] * len(dots), ".", color="tab:orange" if row.cell.beside else "tab:blue", ms=5)
        axis.set_yticks(range(1, len(rows) + 1), [drawn(row.title) for row in rows], fontsize=8)
        axis.set_xlabel(f"accuracy of the {title} on test samples, percent")
        axis.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    _set_title(figure, f"{_title(rows)} (one dot per seed; orange: reads retain or public data)")
    save_figure(figure, path)


def draw_by_classes(rows: Sequence[Line], path: Path) -> None:
    """Draw remaining accuracy against the number of forgotten classes, one panel per network (table 4)."""
    measured = (row for row in rows if row.values["acc_rt"])
    networks = {name: [*group] for name, group in groupby(measured, lambda row: row.cell.network)}
    networks = {name: group for name, group in networks.items() if len({len(row.cell.classes) for row in group}) > 1}
    if not networks:
        raise RequestError("no network forgets different numbers of classes, so there is no figure over them")
    figure = new_figure((6.5 * len(networks) + 2, 4.8), "images")
    colours = _colours(rows)
    axes = figure.subplots(1, len(networks), squeeze=False)[0]
    for axis, (network, group) in zip(axes, networks.items(), strict=True):
        for method in dict.fromkeys(row.cell.method for row in group):
            members = [row for row in group if row.cell.method == method]
            x, y = zip(*sorted((len(row.cell.classes), row.mean("acc_rt")) for row in members), strict=True)
            style, marker = "--" if members[0].cell.beside else "-", MARKERS.get(method, "o")
            axis.plot(x, y, style, marker=marker, ms=5, color=colours[method], label=members[0].title)
        axis.set(xlabel="forgotten classes", ylabel="accuracy of the remaining classes, percent")
        axis.set_xticks(sorted({len(row.cell.classes) for row in group}))
        axis.set_title(network, fontsize=10)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_probe(rows: Sequence[Line], path: Path) -> None:
    """Draw remaining accuracy against the accuracy of a linear probe on the forgotten classes."""
    rows = [row for row in rows if row.values["acc_rt"] and row.values["linear_probe"]]
    if not rows:
        raise RequestError("no cell has a linear probe and test accuracies, so there is no scatter")
    colours = _colours(rows)
    figure = new_figure((8.5, 5.2), "images")
    axis = figure.subplots()
    for row in rows:
        forgotten = row.mean("acc_ft")
        label = row.title + ("" if forgotten is None else f" (Acc_ft {forgotten:.0f})")
        style = {"color": colours[row.cell.method], "ms": 9, **({"mfc": "white"} if row.cell.beside else {})}
        marker = MARKERS.get(row.cell.method, "o")
        axis.plot(row.mean("linear_probe"), row.mean("acc_rt"), marker, label=label, **style)
    axis.set_xlabel("accuracy of a linear probe on the forgotten classes, percent (left is better)")
    axis.set_ylabel("accuracy of the remaining classes, percent")
    axis.grid(alpha=0.3)
    _set_title(figure, f"{_title(rows)} (hollow: reads retain or public data)")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)


def read_features(path: Path) -> tuple[Any, Any] | None:
    """Read the features ``(n, d)`` and labels ``(n,)`` that a cell has saved; None if there are none, or not all are finite."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features, labels = arrays["features"], arrays["labels"]
        fit = features.ndim == 2 and labels.shape == features.shape[:1] and bool(np.isfinite(features).all())
        return (features, labels) if fit else None
    except (OSError, EOFError, BadZipFile, TypeError, ValueError, KeyError):
        return None


def draw_tsne(rows: Sequence[Line], root: Path, path: Path) -> None:
    """Draw the last features of the same test samples, one panel per model; of each method the first seed (figure 4)."""
    panels: list[tuple[str, Any, Any]] = []
    for row in rows:
        saved = (read_features(root / cell.folder / FEATURES) for cell in row.cells if row.cell.method != CUT)
        features, labels = next(filter(None, saved), ((), ()))
        if len(features) >= 10:
            panels.append((row.title, features, labels))
    if not panels:
        raise RequestError("no cell has saved features of ten or more test samples, so there is no t-SNE")
    panels = panels[:MOST_TSNE]
    columns, height = min(4, len(panels)), -(-len(panels) // 4)
    figure = new_figure((3.1 * columns, 3.3 * height + 0.4), "images")
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.axis("off")
    for axis, (title, features, labels) in zip(axes, panels, strict=False):
        forgotten = np.isin(labels, rows[0].ids)
        x, y = embed(features).T
        others = ~forgotten
        axis.scatter(x[others], y[others], c=labels[others] % 20, cmap="tab20", vmin=0, vmax=19, s=5, alpha=0.7)
        axis.scatter(x[forgotten], y[forgotten], c="black", marker="^", s=9)
        axis.set_title(textwrap.fill(title, 34), fontsize=9)
        axis.set(xticks=[], yticks=[])
    names = list_names(rows[0].cell.classes, 3)
    _set_title(figure, f"t-SNE of the last features (black triangles: {names}; dots: other classes)")
    save_figure(figure, path)
