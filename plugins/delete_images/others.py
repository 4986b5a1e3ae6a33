"""What the other classes kept, without labels: a run's erased model against the original on samples that show other classes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from delete_tasks.evaluation.intervals import wilson
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.task import Run

from .data.opening import NO_LABEL
from .metrics import compare_kept
from .models import finish
from .models.classifier import ImageClassifier, predict_batch

LEAST_KEPT = 85.0  # percent of the predictions, significantly less than which counts as damage


def compare_others(
    runner: Run, original: ImageClassifier, erased: ImageClassifier, beside: Iterable[tuple[Tensor, Tensor]] | None
) -> dict[str, Any] | None:
    """Compare both models by :func:`delete_images.metrics.compare_kept` on batches of the retain set or public data, ``beside``
    the forget set, or else on a new view of each image of the forget set, as the original assigns other classes to some of them.
    ``on`` names the samples."""
    data = runner.train_dataloader.dataset
    on = "public data" if data.dataset.public else "the retain set"
    if beside is None:
        on = "images" if data.dataset.views is None else "views"
        views = finish.new_views(runner, min(finish.VIEWS, len(data)))
        beside = ((images, torch.full((len(images),), NO_LABEL)) for images in views)
    with in_eval_mode(original, erased):
        parts = [(*(predict_batch(model, x).cpu() for model in (original, erased)), labels) for x, labels in beside]
    before, after, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    kept = compare_kept(before, after, labels, runner.selection.forget_ids, runner.selection.class_names)
    return None if kept is None else {"on": on, **kept}


def damage(kept: Mapping[str, Any] | None, optimizer: Mapping[str, Any]) -> str | None:
    """Describe a run after which the other classes keep significantly less than :data:`LEAST_KEPT`, i.e. the 95% interval of
    their share ends below it; None for other runs. ``kept`` is the result of :func:`compare_others`."""
    interval = None if kept is None else wilson(kept["same_prediction"], kept["samples"])
    if kept is None or interval is None or interval[1] >= LEAST_KEPT:
        return None
    return (
        f"{100 - kept['same_prediction']:.1f}% of the original's {kept['samples']:,} predictions of other classes, on "
        f"{kept['on']}, have changed; expected: {100 - LEAST_KEPT:g}% at most. Take a lower learning rate than "
        f"{optimizer.get('lr')}{', or give images of other classes (retain)' if kept['on'] in ('views', 'images') else ''}"
    )


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Write the notes on what the other classes kept, ``kept`` and ``damaged`` of a results.json's details."""
    kept, damaged = (results["details"].get(key) for key in ("kept", "damaged"))
    if "kept" not in results["details"]:
        return []
    if kept is None:
        return ["Other classes: not measured, since no view of the forget set shows one; give --test or --retain."]
    worst, shares = kept["worst_class"], kept["predicted_as_forgotten"]
    lowest = "" if worst is None else f"; fewest of {worst['class']}: {worst['same_prediction']:.1f}%"
    return [
        *([] if damaged is None else [f"OTHERS DAMAGED: {damaged}."]),
        f"Without labels, on {kept['on']}: {kept['same_prediction']:.1f}% of the original's {kept['samples']:,} predictions of "
        f"other classes remain{lowest}. Predicted as {' or '.join(results['forgotten'])}: {shares['before']:.1f}% before, "
        f"{shares['after']:.1f}% after.",
    ]
