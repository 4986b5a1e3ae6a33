"""Metrics of a classifier on 'test' and 'train' images (the forget set by default), and a comparison on the remaining classes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from delete_tasks.audit.attacks import find_attacks
from delete_tasks.evaluation import Metric
from delete_tasks.evaluation import functional as f
from delete_tasks.evaluation import metrics as common
from delete_tasks.evaluation.functional import wilson
from delete_tasks.evaluation.metrics import accuracy, accuracy_drop, worst_drop
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.plugins import load_offered
from delete_tasks.task import Run

from .data.opening import NO_LABEL
from .models import finish
from .models.classifier import ImageClassifier, predict_batch

SHOTS = 5
LEAST_KEPT = 85.0  # percent of the predictions, significantly less than which counts as damage
FEW = 20  # samples; classes with fewer are not compared as the worst class
NO_TEST, NO_LABELS = "no test images were given (--test)", "no image has a label"
NO_PROBE = "it takes test and training images (--test, --train-data)"
# The audit's functions, so that a run fits each probe once.
READ = {attack.name: attack.compute for attack in find_attacks("quick")}
CALIBRATION = common.calibration("test", "other classes'", of="test images", lacking=NO_TEST)


METRICS = (
    Metric("forget_acc", "forgotten classes' accuracy on test images", "percent", partial(accuracy, "test", "forget"),
           limit=5.0, of="test images", column="forgotten", role="forget", predicts=True, lacking=NO_TEST),
    Metric("remain_acc", "other classes' accuracy on test images", "percent", partial(accuracy, "test", "retain"),
           lower_is_better=False, of="test images", column="others", role="retain", lacking=NO_TEST),
    Metric("worst_drop", "loss of the one other class that lost most", "points", partial(worst_drop, "test", "retain"),
           limit=5.0, of="test images", column="worst drop", relative=True, lacking=NO_TEST),
    *CALIBRATION[:2],
    Metric("linear_probe", "forgotten classes as a linear probe reads them from the features", "percent",
           READ["linear_probe"], of="test images", column="linear probe", of_features=True, lacking=NO_PROBE),
    Metric("few_shot", f"forgotten classes as the nearest prototype of {SHOTS} examples", "percent",
           READ[f"prototypes_{SHOTS}"], of="test images", column=f"{SHOTS}-shot", of_features=True, lacking=NO_PROBE),
    Metric("forget_acc_train", "forgotten classes' accuracy on training images", "percent",
           partial(accuracy, "train", "forget"), limit=5.0, of="training images", column="forgotten (train)", detail=True,
           lacking=NO_LABELS),
    Metric("remain_acc_train", "other classes' accuracy on training images", "percent", partial(accuracy, "train", "retain"),
           lower_is_better=False, of="training images", column="others (train)", detail=True, lacking=NO_LABELS),
    Metric("h_mean", "harmonic mean of the drop in forgotten accuracy and of the others' accuracy", "percent",
           partial(common.h_mean, "test"), lower_is_better=False, of="test images", column="H-mean", detail=True,
           relative=True, lacking=NO_TEST),
    Metric("remain_drop", "loss of the other classes' accuracy on test images", "points",
           partial(accuracy_drop, "test", "retain"), limit=2.0, of="test images", relative=True, lacking=NO_TEST),
    common.still_predicted("training views"),
    *CALIBRATION[2:],
    *(common.replaced_by(name, "test", "test images of them", lacking=NO_TEST) for name in common.REPLACED_BY),
    *load_offered("metrics.images", "METRICS"),
)  # fmt: skip


def calibration_of(logits: Tensor, labels: Tensor, ids: Sequence[int]) -> dict[str, float | None]:
    """Compute ``nll`` and ``ece`` (percent) on samples labelled with classes other than ``ids``; ``logits`` are ``(N, C)``."""
    measures = {"nll": (f.negative_log_likelihood, 4), "ece": (f.expected_calibration_error, 2)}
    return {name: common.fit_of(*measure, logits, labels, ids).value for name, measure in measures.items()}


def kept_of(confusion: Tensor, ids: Sequence[int], names: Sequence[str], few: int) -> dict[str, Any] | None:
    """Compare two models where the first predicts a remaining class, from their predictions, int64 ``(C, C)``, the first's x the
    second's: number of ``samples`` or locations; ``same_prediction``, percent of them; ``worst_class``, the class (of ``few`` or
    more) with the smallest share, or None; and the percentage of all ``predicted_as_forgotten``, before and after; or None."""
    remaining = [i for i in range(len(names)) if i not in set(ids)]
    hits, totals, forgotten = confusion.diagonal(), confusion.sum(1), list(ids)
    if not totals[remaining].any():
        return None
    shares = {names[i]: f.percent(hits[i], totals[i]) for i in remaining if totals[i] >= few}
    worst = min(shares, key=lambda name: shares[name] or 0.0) if shares else None
    before, after = (f.percent(counts[forgotten].sum(), totals.sum()) for counts in (totals, confusion.sum(0)))
    return {
        "samples": int(totals[remaining].sum()),
        "same_prediction": f.percent(hits[remaining].sum(), totals[remaining].sum()),
        "worst_class": None if worst is None else {"class": worst, "same_prediction": shares[worst]},
        "predicted_as_forgotten": {"before": before, "after": after},
    }


def compare_kept(
    before: Tensor, after: Tensor, labels: Tensor, ids: Sequence[int], names: Sequence[str]
) -> dict[str, Any] | None:
    """Compare the original's and the erased model's logits ``(N, C)`` where the original predicts a remaining class: figures of
    :func:`kept_of`; mean ``confidence`` before and after; and, on samples labelled with remaining classes, ``accuracy``, ``nll``
    and ``ece`` before and after. ``labels`` are int64 ``(N,)``, -1 for none. None without samples."""
    predicted, pairs = before.argmax(1), {"before": before, "after": after}
    kept = kept_of(f.confusion_matrix(predicted, after.argmax(1), len(names)), ids, names, FEW)
    if kept is None:
        return None
    forgotten = torch.tensor(list(ids))
    compared = ~torch.isin(predicted, forgotten)
    means = {name: logits[compared].softmax(1).max(1).values.mean() for name, logits in pairs.items()}
    figures = {**kept, "confidence": {name: round(float(mean), 4) for name, mean in means.items()}}
    labelled = (labels >= 0) & ~torch.isin(labels, forgotten)
    if labelled.any():
        fits = {name: calibration_of(logits, labels, ids) for name, logits in pairs.items()}
        right = {name: (logits.argmax(1) == labels)[labelled].float().mean() for name, logits in pairs.items()}
        figures["accuracy"] = {name: round(100 * float(value), 2) for name, value in right.items()}
        figures |= {figure: {name: fit[figure] for name, fit in fits.items()} for figure in ("nll", "ece")}
    return figures


def compare_others(
    runner: Run, original: ImageClassifier, erased: ImageClassifier, beside: Iterable[tuple[Tensor, Tensor]] | None
) -> dict[str, Any] | None:
    """Compare both models by :func:`compare_kept` on batches of the retain set or public data, ``beside`` the forget set, or else
    on a new view of each of its images, as the original assigns other classes to some. ``on`` names the samples."""
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
