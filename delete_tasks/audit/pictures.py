"""audit.png, a bar an attack and model; tsne.png, the models' features in the plane, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display.figure import new_figure, save_figure
from ..display.table import row_title
from ..errors import RequestError, require
from ..evaluation.predictions import Predictions
from .depth import retrained_names
from .results import MODELS, Audit

COLOURS = {
    "original": "tab:gray",
    "logit_cut": "tab:orange",
    "head_only": "tab:red",
    "erased": "tab:blue",
    "retrained": "tab:green",
}
BARS, TSNE = "audit.png", "tsne.png"
MOST, MOST_FORGOTTEN = 600, 200  # points of a t-SNE, and of the forgotten classes among them
MOST_NAMED = 10  # kept classes whose colours a t-SNE explains


def draw_pictures(
    audit: Audit, rows: Mapping[str, Mapping[str, Any]], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Draw audit.png and tsne.png: the names of those that could be drawn, and why the others could not."""
    drawn, reasons = [], {}
    for name, draw in ((BARS, partial(draw_bars, audit)), (TSNE, partial(draw_tsne, rows, audit.ids, audit.names))):
        try:
            draw(folder / name)
        except RequestError as error:
            reasons[name] = str(error)
        else:
            drawn.append(name)
    return drawn, reasons


def bars(audit: Audit) -> list[tuple[str, dict[str, float]]]:
    """What the bars show: of each attack that reads, percent by model. Nats are percent of the original's."""
    found = []
    for attack in audit.attacks:
        if not attack.reads:
            continue
        values: dict[str, list[float]] = {}
        for name in (*MODELS, *retrained_names(audit.rows)):
            one = audit.rows.get(name, {}).get(attack.name)
            if one is not None and one.value is not None:
                values.setdefault("retrained" if name.startswith("retrained") else name, []).append(one.value)
        whole = values.get("original", [0.0])[0]
        if "erased" not in values or (attack.unit != "percent" and whole <= 0):
            continue
        factor = 1.0 if attack.unit == "percent" else 100 / whole
        label = str(attack.column) if attack.unit == "percent" else f"{attack.column}, % of the original's"
        found.append((label, {name: factor * float(np.mean(own)) for name, own in values.items()}))
    return found


def draw_bars(audit: Audit, path: str | os.PathLike[str]) -> None:
    """Draw a bar for each attack and model.

    Raises:
        RequestError: No attack read anything.
    """
    shown = bars(audit)
    if not shown:
        raise RequestError("no attack that reads the class was measured, so there are no bars")
    models = [name for name in COLOURS if any(name in values for _, values in shown)]
    figure = new_figure((6.4, 0.22 * len(shown) * (len(models) + 1) + 1.2), "audit")
    axis = figure.subplots()
    for number, (_, values) in enumerate(shown):
        for place, name in enumerate(models):
            if name not in values:
                continue
            y = number * (len(models) + 1) + place
            axis.barh(y, values[name], color=COLOURS[name], height=0.9)
            axis.text(max(values[name], 0) + 0.7, y, f"{values[name]:.1f}", va="center", fontsize=8)
    middle = [number * (len(models) + 1) + (len(models) - 1) / 2 for number in range(len(shown))]
    axis.set_yticks(middle, [label for label, _ in shown])
    axis.margins(y=0.02)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * max(100.0, *(value for _, values in shown for value in values.values())))
    axis.set_xlabel("percent of the forgotten classes' held-out samples read", loc="right")
    handles = [axis.barh([0], [0], color=COLOURS[name], label=row_title(name)) for name in models]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(models), frameon=False)
    save_figure(figure, path)


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """t-SNE (scikit-learn) of features ``(n, d)`` of length 1: ``(n, 2)``, the same for the same features."""
    require("sklearn", "audit")
    from sklearn.manifold import TSNE

    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return TSNE(init="pca", perplexity=min(30.0, (len(rows) - 1) / 3), random_state=0).fit_transform(rows)


def choose_points(labels: NDArray[np.int64], ids: Sequence[int]) -> NDArray[np.int64]:
    """Which labelled samples are drawn, ascending: of the forgotten classes up to 200, of the others as many as fit."""
    generator = np.random.default_rng(0)
    gone = np.isin(labels, list(ids))
    forgotten = generator.permutation(np.flatnonzero(gone))[:MOST_FORGOTTEN]
    kept = generator.permutation(np.flatnonzero((labels >= 0) & ~gone))[: MOST - len(forgotten)]
    return np.sort(np.concatenate([forgotten, kept]))


def draw_tsne(
    rows: Mapping[str, Mapping[str, Any]], ids: Sequence[int], names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draw the held-out samples' features of the original, the erased and a retrained model, the forgotten classes as triangles.

    Raises:
        RequestError: There are no held-out samples of forgotten classes, or no features.
    """
    shown = [name for name in rows if name in ("original", "erased") or name.startswith("retrained")][:3]
    given: dict[str, Predictions] = {name: rows[name]["test"] for name in shown if "test" in rows[name]}
    features = {name: found.features for name, found in given.items() if found.features is not None}
    if "original" not in features:
        raise RequestError("there are no features of held-out samples, so there is no t-SNE")
    labels = given["original"].labels.numpy()
    chosen = choose_points(labels, ids)
    own = labels[chosen]
    gone = np.isin(own, list(ids))
    if not gone.any() or len(chosen) < 10:
        raise RequestError("the held-out samples show too few of the forgotten classes, so there is no t-SNE")
    kept = sorted(set(own[~gone].tolist()))
    many = 10 if len(names) <= 10 else 20
    figure = new_figure((3.3 * len(features), 4.2), "audit")
    from matplotlib import colormaps

    axes = figure.subplots(1, len(features), squeeze=False)[0]
    colours = colormaps[f"tab{many}"]
    for axis, (name, found) in zip(axes, features.items(), strict=True):
        x, y = embed(found.numpy()[chosen]).T
        for label in kept:
            at, colour = own == label, colours(label % many)
            axis.scatter(x[at], y[at], color=colour, s=7, alpha=0.7, label=_plain(names[label]))
        axis.scatter(x[gone], y[gone], c="black", marker="^", s=16)
        axis.set_title(name.partition("_")[0])
        axis.set_xticks([])
        axis.set_yticks([])
    who = ", ".join(_plain(names[i]) for i in list(ids)[:3]) + (", ..." if len(ids) > 3 else "")
    figure.suptitle(f"t-SNE of the last features: {who} as black triangles", fontsize=10)
    if len(kept) <= MOST_NAMED:
        handles = axes[0].get_legend_handles_labels()
        figure.legend(
            *handles, loc="outside lower center", ncols=min(5, len(kept)), fontsize=8, markerscale=2, frameon=False
        )
    save_figure(figure, path)


def _plain(name: str) -> str:
    """A class name as matplotlib draws it, no formula, and short."""
    return (name if len(name) <= 18 else f"{name[:17]}…").replace("$", r"\$")
