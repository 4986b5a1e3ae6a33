"""The grid's figures: radar, box plot over seeds, number of classes, t-SNE, and accuracy against what a probe still reads."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..audit.pictures import embed
from ..display.figure import new_figure, save_figure
from ..errors import RequestError, list_names, require
from .grid import CUT, ORIGINAL, RETRAINED, Cell
from .measure import FEATURES
from .table import Line, tables

RADAR = ("forgets", "keeps", "no MIA", "speed")  # counter-clockwise from the top
MOST_TSNE = 32  # panels
MARKS = {ORIGINAL: "s", CUT: "X", RETRAINED: "*"}


def draw_all(rows: Sequence[Line], cells: Sequence[Cell], root: Path) -> tuple[list[str], dict[str, str]]:
    """Draw all figures: the files' names, and why others could not be drawn."""
    drawn, reasons = [], {}
    jobs: dict[str, Any] = {"by_classes.png": partial(draw_by_classes, rows)}
    groups = tables(rows)
    for number, (_, own) in enumerate(groups, 1):
        suffix = f"_{number}" if len(groups) > 1 else ""
        jobs[f"radar{suffix}.png"] = partial(draw_radar, own)
        jobs[f"seeds{suffix}.png"] = partial(draw_seeds, own)
        jobs[f"probe{suffix}.png"] = partial(draw_probe, own)
        jobs[f"tsne{suffix}.png"] = partial(draw_tsne, own, cells, root)
    for name, draw in jobs.items():
        try:
            draw(root / name)
        except RequestError as error:
            reasons[name] = str(error)
        else:
            drawn.append(name)
    return drawn, reasons


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


def _title(rows: Sequence[Line]) -> str:
    return _plain(f"{rows[0].network}: {rows[0].group}")


def _colours(rows: Sequence[Line]) -> dict[str, Any]:
    colours = require("matplotlib", "images").colormaps["tab20"]
    methods = list(dict.fromkeys(row.method for row in rows if not row.is_reference))
    found = {method: colours(place % 20) for place, method in enumerate(methods)}
    return {**found, ORIGINAL: "black", CUT: "dimgray", RETRAINED: "green"}


def radar_values(rows: Sequence[Line]) -> dict[str, list[float]]:
    """By method, percent on each axis of :data:`RADAR`; speed is 100 for the fastest and 0 for the slowest, in logarithms.

    Raises:
        RequestError: No method has all four.
    """
    found = {}
    for row in rows:
        given = [row.mean(name) for name in ("acc_ft", "acc_rt", "membership_svc", "seconds")]
        if not row.is_reference and None not in given:
            found[row.method] = [float(value) for value in given]  # type: ignore[arg-type]
    if not found:
        raise RequestError("no method has accuracies, membership and seconds, so there is no radar")
    times = [np.log(max(values[3], 0.1)) for values in found.values()]
    low, high = min(times), max(times)
    return {
        method: [
            100 - v[0],
            v[1],
            100 - v[2],
            100 * (high - np.log(max(v[3], 0.1))) / (high - low) if high > low else 100.0,
        ]
        for method, v in found.items()
    }


def draw_radar(rows: Sequence[Line], path: Path) -> None:
    """Forgetting, remaining, membership and time (figure 1 of the paper), a panel a method with the first one's outline."""
    values = radar_values(rows)
    colours = _colours(rows)
    retain = {row.method for row in rows if row.retain}
    first, outline = next(iter(values.items()))
    columns = min(5, len(values))
    lines = -(-len(values) // columns)
    figure = new_figure((2.3 * columns, 2.5 * lines + 0.5), "images")
    axes = figure.subplots(lines, columns, squeeze=False, subplot_kw={"projection": "polar"}).ravel()
    angles = np.linspace(0, 2 * np.pi, len(RADAR), endpoint=False)
    for axis in axes[len(values) :]:
        axis.axis("off")
    for axis, (method, own) in zip(axes, values.items(), strict=False):
        axis.fill(angles, own, color=colours[method], alpha=0.45)
        axis.fill(angles, own, fill=False, ec=colours[method], lw=1.6, ls="--" if method in retain else "-")
        axis.fill(angles, outline, fill=False, ec="black", lw=0.8)
        axis.set_theta_zero_location("N")
        axis.set_xticks(angles, RADAR, fontsize=7)
        axis.set_yticks((25, 50, 75, 100), [])
        axis.tick_params(axis="x", pad=0)
        axis.set_ylim(0, 100)
        axis.set_title(_plain(method), fontsize=9)
    figure.suptitle(
        f"{_title(rows)} (outside is better; dashed reads retain data; black: {_plain(first)})", fontsize=10
    )
    save_figure(figure, path)


def draw_seeds(rows: Sequence[Line], path: Path) -> None:
    """Box plots of the test accuracies over seeds (figure 2)."""
    own = [row for row in rows if row.known("acc_ft") and row.known("acc_rt")]
    if not own:
        raise RequestError("no cell has test accuracies, so there is no box plot")
    figure = new_figure((10, 0.32 * len(own) + 1.4), "images")
    for axis, name, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("acc_ft", "acc_rt"),
        ("forgotten classes", "remaining classes"),
        strict=True,
    ):
        axis.boxplot(
            [row.known(name) for row in own], orientation="horizontal", widths=0.6, medianprops={"color": "black"}
        )
        for place, row in enumerate(own, 1):
            values = row.known(name)
            axis.plot(values, [place] * len(values), ".", color="tab:orange" if row.retain else "tab:blue", ms=5)
        axis.set_yticks(range(1, len(own) + 1), [_plain(row.title) for row in own], fontsize=8)
        axis.set_xlabel(f"accuracy of the {title} on test samples, percent")
        axis.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.suptitle(f"{_title(rows)} (a dot a seed; orange reads retain data)", fontsize=10)
    save_figure(figure, path)


def draw_by_classes(rows: Sequence[Line], path: Path) -> None:
    """Remaining accuracy against how many classes are forgotten, for each network (table 4)."""
    networks: dict[str, list[Line]] = {}
    for row in rows:
        if row.mean("acc_rt") is not None:
            networks.setdefault(row.network, []).append(row)
    shown = {name: own for name, own in networks.items() if len({row.classes for row in own}) > 1}
    if not shown:
        raise RequestError("no network forgets different numbers of classes, so there is no figure over them")
    figure = new_figure((6.5 * len(shown) + 2, 4.8), "images")
    colours = _colours(rows)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (network, own) in zip(axes, shown.items(), strict=True):
        for method in dict.fromkeys(row.method for row in own):
            points = sorted(
                (row.classes, row.mean("acc_rt"), row.title, row.retain) for row in own if row.method == method
            )
            style = "--" if points[0][3] else "-"
            x, y = [point[0] for point in points], [point[1] for point in points]
            axis.plot(
                x, y, style, marker=MARKS.get(method, "o"), ms=5, color=colours[method], label=_plain(points[0][2])
            )
        axis.set_xticks(sorted({row.classes for row in own}))
        axis.set_xlabel("forgotten classes")
        axis.set_ylabel("accuracy of the remaining classes, percent")
        axis.set_title(_plain(network), fontsize=10)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_probe(rows: Sequence[Line], path: Path) -> None:
    """Remaining accuracy against what a linear probe still reads of the forgotten classes."""
    own = [row for row in rows if row.mean("acc_rt") is not None and row.mean("linear_probe") is not None]
    if not own:
        raise RequestError("no cell has a linear probe and test accuracies, so there is no scatter")
    colours = _colours(rows)
    figure = new_figure((8.5, 5.2), "images")
    axis = figure.subplots()
    for row in own:
        fill = {"mfc": "white"} if row.retain else {}
        label = (
            f"{_plain(row.title)} (Acc_ft {row.mean('acc_ft'):.0f})" if row.mean("acc_ft") is not None else row.title
        )
        axis.plot(
            row.mean("linear_probe"),
            row.mean("acc_rt"),
            MARKS.get(row.method, "o"),
            color=colours[row.method],
            ms=9,
            label=label,
            **fill,
        )
    axis.set_xlabel("forgotten classes read by a linear probe, percent (left is better)")
    axis.set_ylabel("accuracy of the remaining classes, percent")
    axis.grid(alpha=0.3)
    axis.set_title(f"{_title(rows)} (hollow reads retain data)", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)


def read_features(path: Path) -> tuple[Any, Any] | None:
    """Features ``(n, d)`` and labels ``(n,)`` that a cell keeps; None where it has none."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return found["features"], found["labels"]
    except (OSError, ValueError, KeyError):
        return None


def draw_tsne(rows: Sequence[Line], cells: Sequence[Cell], root: Path, path: Path) -> None:
    """Draw the last features of the same test samples by model: original, retrained, each method's first seed (figure 4)."""
    panels: list[tuple[str, Any, Any, Cell]] = []
    for row in rows:
        cell = next(
            (
                one
                for one in cells
                if (one.network, one.group, one.method) == (row.network, row.group, row.method)
                and (root / one.folder / FEATURES).is_file()
            ),
            None,
        )
        found = None if cell is None or row.method == CUT else read_features(root / cell.folder / FEATURES)
        if found is not None and len(found[0]) >= 10:
            panels.append((row.title, *found, cell))  # type: ignore[arg-type]
    if not panels:
        raise RequestError("no cell keeps features of ten test samples or more, so there is no t-SNE")
    panels = panels[:MOST_TSNE]
    columns = min(4, len(panels))
    figure = new_figure((3.1 * columns, 3.3 * -(-len(panels) // columns) + 0.4), "images")
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).ravel()
    gone_ids = _forgotten_ids(root, panels[0][3])
    for axis in axes[len(panels) :]:
        axis.axis("off")
    for axis, (title, features, labels, _) in zip(axes, panels, strict=False):
        gone = np.isin(labels, gone_ids)
        x, y = embed(features).T
        axis.scatter(x[~gone], y[~gone], c=labels[~gone] % 20, cmap="tab20", vmin=0, vmax=19, s=5, alpha=0.7)
        axis.scatter(x[gone], y[gone], c="black", marker="^", s=9)
        axis.set_title(_plain(title), fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    who = list_names(panels[0][3].classes, 3)
    figure.suptitle(f"t-SNE of the last features: {_plain(who)} as black triangles, other classes as dots", fontsize=10)
    save_figure(figure, path)


def _forgotten_ids(root: Path, cell: Cell) -> Sequence[int]:
    from .cells import DONE, read_json

    content: Mapping[str, Any] = read_json(root / cell.folder / DONE) or {}
    return list(content.get("ids", []))
