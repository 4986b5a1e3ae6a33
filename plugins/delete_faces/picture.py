"""before_after.png: whom the removed people's photos are taken for, and how alike two photos of them are, before and after."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from delete_images.data.opening import ImageData
from delete_images.models.model_file import ModelSpec
from delete_images.opened import predict_images
from delete_tasks.display.figure import new_figure, save_figure
from delete_tasks.fileio.sampling import evenly_spread

from .heads import CosineHead, without_rows
from .network import FaceNetwork

SHOWN = 6


def draw_people(
    path: str | os.PathLike[str],
    gallery: ImageData,
    original: FaceNetwork,
    erased: FaceNetwork,
    spec: ModelSpec,
    ids: Sequence[int],
    checks: Mapping[str, Any],
) -> None:
    """Draw up to six held-out photos of the removed people with whom each model takes them for, above histograms of
    similarity. ``erased`` has all rows, and is shown without the removed people's; ``checks`` verify both models, for the
    thresholds."""
    gone = gallery.subset(np.flatnonzero(np.isin(gallery.labels, list(ids))))
    before, after = (predict_images(network, spec, gone, "Picture") for network in (original, erased))
    others = [i for i in range(len(spec.classes)) if i not in set(ids)]
    if before.features is None or after.features is None:
        return
    with torch.no_grad():
        cut = without_rows(erased.head, ids)(after.features) if len(others) >= 2 else after.logits
    names = [spec.classes[i] for i in others] if len(others) >= 2 else list(spec.classes)
    threshold = spec.extra.get("threshold")
    then, now = (original.head.scores(before.logits).max(1), erased.head.scores(cut).max(1))
    chosen = evenly_spread(len(gone), SHOWN)
    figure = new_figure((2 * SHOWN, 6), "faces")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    top, bottom = parts
    score = "cosine of the photo's embedding and the person's row" if isinstance(original.head, CosineHead) else "logit"
    limit = "" if threshold is None else f"; below {threshold:.2f} nobody is named"
    top.suptitle(
        f"Held-out photos of removed people, and whom each model takes them for (score: {score}{limit})", fontsize=10
    )
    axes: Any = top.subplots(1, SHOWN)
    for axis in axes:
        axis.axis("off")
    for axis, i in zip(axes, chosen, strict=False):
        axis.imshow(gone[i][0])
        scores = (
            (spec.classes[int(then.indices[i])], float(then.values[i])),
            (names[int(now.indices[i])], float(now.values[i])),
        )
        axis.set_title(caption(*scores, threshold), fontsize=8, parse_math=False)  # a '$' in a name is a '$'
    _draw_pairs(bottom, gone, (before.features, after.features), checks)
    save_figure(figure, path)


def caption(before: tuple[str, float], after: tuple[str, float], threshold: float | None) -> str:
    """Write two lines for a photo: the persons that original and erased model name. ``before`` and ``after`` are name and
    score of the first choice; below the threshold, if any, nobody is named."""
    lines = []
    for when, (name, score) in (("before", before), ("after", after)):
        shown = f"{name.replace('_', ' ')}, {score:.2f}"
        lines.append(
            f"{when}: {shown}" if threshold is None or score >= threshold else f"{when}: nobody\n(nearest {shown})"
        )
    return "\n".join(lines)


def _draw_pairs(figure: Any, gone: ImageData, features: Sequence[torch.Tensor], checks: Mapping[str, Any]) -> None:
    """Histograms of how alike two photos of a removed person are, before and after, on one scale."""
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, embeddings, row, title in zip(axes, features, ("original", "erased"), ("before", "after"), strict=True):
        unit = torch.nn.functional.normalize(embeddings).numpy()
        first, second = np.triu_indices(len(unit), 1)
        same = gone.labels[first] == gone.labels[second]
        axis.hist((unit @ unit.T)[first, second][same], bins=np.linspace(-1, 1, 41), color="tab:orange")
        at = (checks[row] or {"at": {}})["at"]
        for style, (far, figures) in zip(("--", ":"), at.items(), strict=False):
            if figures["threshold"] is not None:
                label = f"match, at 1 false accept in {1 / float(far):,.0f}"
                axis.axvline(figures["threshold"], color="black", ls=style, lw=1, label=label)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper left", fontsize=8, title="right of the line", title_fontsize=8)
        axis.set_title(f"{title}: how alike two photos of a removed person are ({int(same.sum()):,} pairs)", fontsize=9)
        axis.set_xlabel("cosine of the two embeddings", fontsize=8)
    axes[0].set_ylabel("pairs of photos", fontsize=8)
