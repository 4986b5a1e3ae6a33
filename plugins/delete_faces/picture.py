"""before_after.png: whom the removed people's photos are taken for, and how alike two photos of them are, before and after."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from delete_images.data import ImageData
from delete_images.evaluate import answers
from delete_images.model_file import ModelSpec
from delete_tasks.errors import require
from delete_tasks.pictures import save_figure

from .heads import without_rows
from .network import FaceNetwork

SHOWN = 6


def draw_people(
    path: str | os.PathLike[str],
    gallery: ImageData,
    original: FaceNetwork,
    erased: FaceNetwork,
    spec: ModelSpec,
    ids: Sequence[int],
    rows: Mapping[str, Any],
) -> None:
    """Draw up to six held-out photos of the removed people with what each model says, above histograms of similarity.

    Args:
        path: Where the PNG goes.
        gallery: Held-out faces.
        original: Before.
        erased: After, with all rows; the picture shows it without them.
        spec: Of the original.
        ids: The removed people.
        rows: Of the table, for the thresholds.
    """
    require("matplotlib", "faces")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gone = gallery.subset(np.flatnonzero(np.isin(gallery.labels, list(ids))))
    before, after = answers(original, spec, gone, "Picture"), answers(erased, spec, gone, "Picture")
    others = [i for i in range(len(spec.classes)) if i not in set(ids)]
    if before.features is None or after.features is None:
        return
    with torch.no_grad():
        cut = without_rows(erased.head, ids)(after.features) if len(others) >= 2 else after.logits
    names = [spec.classes[i] for i in others] if len(others) >= 2 else list(spec.classes)
    chosen = np.linspace(0, len(gone), min(SHOWN, len(gone)), endpoint=False).astype(int)
    figure = Figure(figsize=(2 * SHOWN, 5.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.1, 1])
    top, bottom = parts
    axes: Any = top.subplots(1, SHOWN)
    for axis in axes:
        axis.axis("off")
    for axis, i in zip(axes, chosen, strict=False):
        axis.imshow(gone[i][0])
        then, now = before.logits[i].softmax(0).max(0), cut[i].softmax(0).max(0)
        axis.set_title(
            f"before: {spec.classes[int(then.indices)]} {float(then.values):.2f}\n"
            f"after: {names[int(now.indices)]} {float(now.values):.2f}",
            fontsize=7,
        )
    for axis, features, row in zip(
        bottom.subplots(1, 2, sharex=True), (before.features, after.features), ("original", "erased"), strict=True
    ):
        unit = torch.nn.functional.normalize(features).numpy()
        first, second = np.triu_indices(len(unit), 1)
        same = gone.labels[first] == gone.labels[second]
        axis.hist((unit @ unit.T)[first, second][same], bins=np.linspace(-1, 1, 41), color="tab:orange")
        check = rows[row]["verification"]
        for far, at in (check or {"at": {}})["at"].items():
            if at["threshold"] is not None:
                axis.axvline(at["threshold"], color="black", ls="--", lw=0.8)
                axis.text(
                    at["threshold"], axis.get_ylim()[1], f" FAR {float(far):g}", va="top", fontsize=7, rotation=90
                )
        axis.set_title(f"{row}: two held-out photos of a removed person", fontsize=8)
        axis.set_xlabel("cosine of embeddings; right of a line they match", fontsize=8)
    save_figure(figure, path)
