"""Pictures of an audit: bars of attacks, curves of relearning, and t-SNE maps of features."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display.figure import drawable, new_figure, save_figure
from ..display.table import row_title
from ..errors import RequestError, require
from ..evaluation.metric import Measured
from ..evaluation.predictions import Predictions
from .probes import normalize
from .results import MODELS, Audit, Rows, names_of

COLOURS = dict(
    original="tab:gray", logit_cut="tab:orange", head_only="tab:red", erased="tab:blue", retrained="tab:green"
)
BARS, CURVES, TSNE = "audit.png", "relearning.png", "tsne.png"
MOST, MOST_FORGOTTEN = 400, 130  # points of a t-SNE map, and points of the forgotten classes among them
ITERATIONS = 500  # of 400 points; 500 more take as long again and lower the divergence by 3%
MOST_NAMED = 10  # kept classes in a legend


def draw_pictures(audit: Audit, rows: Rows, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Draw audit.png, tsne.png and, for curves by step, relearning.png; return their names, and the reasons for missing ones."""
    jobs: dict[str, Callable[[Path], None]] = {BARS: partial(draw_bars, audit)}
    curves = curves_by_attack(audit)
    if curves:
        jobs[CURVES] = partial(draw_curves, curves)
    jobs[TSNE] = partial(draw_tsne, rows, audit.ids, audit.names)
    return draw_each(jobs, folder)


def draw_each(jobs: Mapping[str, Callable[[Path], None]], folder: Path) -> tuple[list[str], dict[str, str]]:
    """Draw pictures by the names of their files; return the names of those written, and the reasons by name for the others."""
    drawn, reasons = [], {}
    for name, draw in jobs.items():
        try:
            draw(folder / name)
        except RequestError as error:
            reasons[name] = str(error)
        else:
            drawn.append(name)
    return drawn, reasons


@dataclass(frozen=True)
class Bars:
    """Bars of one attack in percent: by model, with the erased model's interval and chance, if known."""

    label: str
    values: Mapping[str, float]
    interval: tuple[float, float] | None
    chance: float | None


def bars(audit: Audit) -> list[Bars]:
    """Return the bars of each attack that reads; figures in other units become percent of the original's, or of the way from the
    retrained models to the original if the attack names this ratio."""
    groups = []
    for attack in audit.attacks:
        if not attack.reads:
            continue
        values: dict[str, list[float]] = {}
        for name in (*MODELS, *names_of("retrained", audit.rows)):
            figure = audit.rows.get(name, {}).get(attack.name, Measured())
            if figure.value is not None:
                values.setdefault("retrained" if name.startswith("retrained") else name, []).append(figure.value)
        least, factor, label = 0.0, 1.0, str(attack.column)
        if attack.unit != "percent":
            whole = values.get("original", [0.0])[0]
            label = f"{attack.column}, % of the original's"
            if attack.ratio is not None and audit.depth[attack.name].value is not None:
                least, label = float(np.mean(values["retrained"])), f"{attack.ratio}, %"
            factor = 100 / (whole - least) if whole > least else 0.0
        if "erased" in values and factor:
            ends = audit.rows["erased"][attack.name].interval
            interval = None if ends is None else (factor * (ends[0] - least), factor * (ends[1] - least))
            means = {name: factor * (float(np.mean(each)) - least) for name, each in values.items()}
            groups.append(Bars(label, means, interval, audit.chance[attack.name]))
    return groups


def draw_bars(audit: Audit, path: str | os.PathLike[str]) -> None:
    """Draw a bar for each attack and model, the erased model's interval, and chance; raise RequestError if there is none."""
    groups = bars(audit)
    if not groups:
        raise RequestError("no attack that reads the class was measured, so there are no bars")
    models = [name for name in COLOURS if any(name in group.values for group in groups)]
    figure = new_figure((6.4, 0.22 * len(groups) * (len(models) + 1) + 1.4), "audit")
    axis, height = figure.subplots(), len(models) + 1
    for number, group in enumerate(groups):
        for place, name in enumerate(models):
            if name not in group.values:
                continue
            y, value, end = number * height + place, group.values[name], group.values[name]
            axis.barh(y, value, color=COLOURS[name], height=0.9)
            if name == "erased" and group.interval is not None:
                axis.plot(group.interval, (y, y), color="black", linewidth=1, solid_capstyle="butt")
                end = max(value, group.interval[1])
            axis.text(max(end, 0) + 0.7, y, f"{value:.1f}", va="center", fontsize=8)
        if group.chance is not None:
            axis.plot([group.chance] * 2, (number * height - 0.5, (number + 1) * height - 1.5), "k:", linewidth=1.2)
    middle = [number * height + (len(models) - 1) / 2 for number in range(len(groups))]
    axis.set_yticks(middle, [group.label for group in groups])
    axis.margins(y=0.02)
    axis.invert_yaxis()
    every = [value for group in groups for value in group.values.values()]
    axis.set_xlim(min(0.0, *every), 1.12 * max(100.0, *every))
    axis.set_xlabel(
        "percent of the forgotten classes' held-out samples read; less is better\n"
        "dotted: chance; line: 95% interval of the erased model",
        loc="right",
    )
    handles = [axis.barh([0], [0], color=COLOURS[name], label=row_title(name)) for name in models]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(models), frameon=False)
    save_figure(figure, path)


def curves_by_attack(audit: Audit) -> dict[str, dict[str, dict[int, float]]]:
    """Find curves of relearning by attack and model: percent by step, less the share of other classes' samples."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for attack in audit.attacks:
        for name in (*MODELS, *names_of("retrained", audit.rows)):
            details = audit.rows.get(name, {}).get(attack.name, Measured()).details or {}
            if "by_step" in details:
                less = details["kept_taken_by_step"]
                values = {int(step): value - less[step] for step, value in details["by_step"].items()}
                curves.setdefault(attack.column or attack.name, {})[name] = values
    return curves


def draw_curves(curves: Mapping[str, Mapping[str, Mapping[int, float]]], path: str | os.PathLike[str]) -> None:
    """Draw a panel for each attack of :func:`curves_by_attack`, a colour for each model."""
    figure = new_figure((4.2 * len(curves), 3.9), "audit")
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, (title, models) in zip(axes, curves.items(), strict=True):
        for name, values in models.items():
            kind = "retrained" if name.startswith("retrained") else name
            style = "--" if kind == "logit_cut" else "-"  # the last layer relearns as the original's
            (line,) = axis.plot(list(values), list(values.values()), style, color=COLOURS[kind], label=row_title(kind))
            handles.setdefault(kind, line)
        axis.set(title=title, xlabel="steps of fine-tuning")
        axis.grid(alpha=0.3)
    lowest = min(value for models in curves.values() for values in models.values() for value in values.values())
    axes[0].set(ylabel="percent recognised, less the\nothers taken for the classes", ylim=(min(0.0, lowest), 102))
    figure.legend(handles=list(handles.values()), loc="outside upper center", ncols=len(handles), frameon=False)
    save_figure(figure, path)


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed features ``(n, d)`` at length 1 by t-SNE, ``(n, 2)``, deterministic; refuse equal ones, which crash the library."""
    require("sklearn", "audit")
    from sklearn.manifold import TSNE

    unit = normalize(features)
    if not np.ptp(unit, axis=0).any():
        raise RequestError("a model's features are the same for all samples, so there is no t-SNE")
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=0, max_iter=ITERATIONS).fit_transform(unit)


def choose_points(labels: NDArray[np.int64], ids: Sequence[int]) -> NDArray[np.int64]:
    """Choose the labelled samples to draw, in ascending order: up to 130 of the forgotten classes, 400 in all."""
    generator = np.random.default_rng(0)
    is_forgotten = np.isin(labels, list(ids))
    forgotten = generator.permutation(np.flatnonzero(is_forgotten))[:MOST_FORGOTTEN]
    others = generator.permutation(np.flatnonzero((labels >= 0) & ~is_forgotten))[: MOST - len(forgotten)]
    return np.sort(np.concatenate([forgotten, others]))


def draw_tsne(rows: Rows, ids: Sequence[int], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw held-out samples' features of the original, the erased and a retrained model, the forgotten classes as triangles;
    raise :class:`RequestError` without features or held-out samples of forgotten classes."""
    names_drawn = [name for name in rows if name in ("original", "erased") or name.startswith("retrained")][:3]
    tests: dict[str, Predictions] = {name: rows[name]["test"] for name in names_drawn if "test" in rows[name]}
    features = {name: test.features for name, test in tests.items() if test.features is not None}
    if "original" not in features:
        raise RequestError("there are no features of held-out samples, so there is no t-SNE")
    chosen = choose_points(tests["original"].labels.numpy(), ids)
    labels = tests["original"].labels.numpy()[chosen]
    forgotten = np.isin(labels, list(ids))
    if not forgotten.any() or len(chosen) < 10:
        raise RequestError("the held-out samples show too few of the forgotten classes, so there is no t-SNE")
    others = sorted(set(labels[~forgotten].tolist()))
    many = 10 if len(names) <= 10 else 20
    names = drawable(names)
    figure = new_figure((3.3 * len(features), 4.2), "audit")
    from matplotlib import colormaps

    axes = figure.subplots(1, len(features), squeeze=False)[0]
    colours = colormaps[f"tab{many}"]
    for axis, (name, values) in zip(axes, features.items(), strict=True):
        x, y = embed(values.numpy()[chosen]).T
        for label in others:
            at, colour = labels == label, colours(label % many)
            axis.scatter(x[at], y[at], color=colour, s=7, alpha=0.7, label=_plain(names[label]))
        axis.scatter(x[forgotten], y[forgotten], c="black", marker="^", s=16)
        axis.set(title=name.partition("_")[0], xticks=[], yticks=[])
    listed = ", ".join(_plain(names[i]) for i in list(ids)[:3]) + (", ..." if len(ids) > 3 else "")
    figure.suptitle(f"t-SNE of the last features: {listed} as black triangles", fontsize=10)
    if len(others) <= MOST_NAMED:
        style = {"ncols": min(5, len(others)), "fontsize": 8, "markerscale": 2, "frameon": False}
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", **style)
    save_figure(figure, path)


def _plain(name: str) -> str:
    """Shorten a class name."""
    return name if len(name) <= 18 else f"{name[:17]}…"
