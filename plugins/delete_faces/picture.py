"""before_after.png: the people that removed people's photos are taken for, and the similarity of photos, before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delete_images.data.opening import ImageData
from delete_images.models.model_file import ModelSpec
from delete_tasks.display.figure import drawable, new_figure, save_figure
from delete_tasks.evaluation.predictions import choose
from delete_tasks.fileio.sampling import evenly_spread

from .network import CosineHead, Head

SHOWN = 6


def draw_people(
    path: Path,
    gallery: ImageData,
    rows: Mapping[str, Mapping[str, Any]],
    head: Head,
    spec: ModelSpec,
    ids: Sequence[int],
    checks: Mapping[str, Any],
) -> None:
    """Draw up to six held-out photos of the removed people ``ids`` with the person that each model takes them for, above
    histograms of similarity. ``gallery`` are held-out photos of everyone, for which the table's ``rows`` have predictions as
    'test'. The original's ``head`` gives scores, ``checks`` (verification of 'original' and 'erased') thresholds."""
    indices = np.flatnonzero(np.isin(gallery.labels, list(ids)))
    photos, last = gallery.subset(indices), rows.get("row_removed", rows["erased"])
    before, after = (choose(row["test"], torch.from_numpy(indices)) for row in (rows["original"], last))
    if before.features is None or after.features is None:
        return
    names, threshold = drawable(spec.classes, "person"), spec.extra.get("threshold")
    figure = new_figure((2 * SHOWN, 6), "faces")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    score = "cosine of the photo's embedding and the person's template" if isinstance(head, CosineHead) else "logit"
    limit = "" if threshold is None else f"; unknown below {threshold:.2f}"
    top.suptitle(f"Removed people, and who each model takes them for ({score}{limit})", fontsize=10)
    axes: Any = top.subplots(1, SHOWN)
    for axis in axes:
        axis.axis("off")
    for axis, i in zip(axes, evenly_spread(len(photos), SHOWN), strict=False):
        axis.imshow(photos[i][0])
        best = [(names[int(row.predicted[i])], float(head.scores(row.logits[i]).max())) for row in (before, after)]
        axis.set_title(caption(best[0], best[1], threshold), fontsize=8)
    _draw_pairs(bottom, photos, (before.features, after.features), checks)
    save_figure(figure, path)


def caption(before: tuple[str, float], after: tuple[str, float], threshold: float | None) -> str:
    """Caption a photo with the first names and scores of both models; a name below the threshold, if any, is the nearest."""
    lines = []
    for when, (name, score) in (("before", before), ("after", after)):
        text = f"{name.replace('_', ' ')}, {score:.2f}"
        named = threshold is None or score >= threshold
        lines.append(f"{when}: {text}" if named else f"{when}: unknown\n(nearest {text})")
    return "\n".join(lines)


def _draw_pairs(figure: Any, photos: ImageData, features: Sequence[torch.Tensor], checks: Mapping[str, Any]) -> None:
    """Draw histograms of the similarity of two photos of a removed person, before and after, on one scale."""
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, embeddings, row, title in zip(axes, features, ("original", "erased"), ("before", "after"), strict=True):
        unit = torch.nn.functional.normalize(embeddings).numpy()
        first, second = np.triu_indices(len(unit), 1)
        same = photos.labels[first] == photos.labels[second]
        axis.hist((unit @ unit.T)[first, second][same], bins=np.linspace(-1, 1, 41), color="tab:orange")
        at = (checks[row] or {"at": {}})["at"]
        for style, (far, figures) in zip(("--", ":"), at.items(), strict=False):
            if figures["threshold"] is not None:
                label = f"match, at 1 false accept in {1 / float(far):,.0f}"
                axis.axvline(figures["threshold"], color="black", ls=style, lw=1, label=label)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper left", fontsize=8, title="right of the line", title_fontsize=8)
        axis.set_title(f"{title}: similarity of two photos of a removed person ({int(same.sum()):,} pairs)", fontsize=9)
        axis.set_xlabel("cosine of the two embeddings", fontsize=8)
    axes[0].set_ylabel("pairs of photos", fontsize=8)
