"""Audit within an erasing command, of the predictions behind its table or of further ones that its task reads."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation import Evaluation
from ..evaluation.metric import Measured, Row
from ..evaluation.predictions import Predictions, choose
from ..evaluation.reader import OpenedModel
from ..fileio.environment import plain
from .attack import SPLITS, Context
from .attacks import find_attacks
from .pictures import draw_pictures
from .results import MODELS, Rows, measure, reading_of, with_cut_logit
from .samples import last_layer
from .verdict import Reading, decide

NONE = "none"
MOST = {"quick": 2000, "full": 20_000}  # samples per split, so that the audit takes a small part of a run's time
TRAINING, THIRD = "labelled training samples", "a third of the held-out samples"  # training data of attacks
LEAST = 5  # held-out samples of the forgotten classes; fewer show no difference


def audit_run(
    evaluation: Evaluation,
    level: str,
    folder: Path,
    read: Callable[[], Rows] | None = None,
    original: OpenedModel | None = None,
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Attack the models that a command measured at a ``level``, 'none', 'quick' or 'full', and draw its pictures in its work dir,
    ``folder``. ``read`` returns predictions by row and split; None takes those behind the rows. The last layer of the
    ``original`` reads the other models' features as well.

    Return ``audit`` of results.json: None for 'none'; else at least ``level``, ``pictures`` and ``not_measured``; if attacks
    read, ``trained_on``: :data:`TRAINING`, or :data:`THIRD` if the run has no training samples. Also return the verdict without
    limits, see :func:`decide`, on the attacks and on the task's own metrics.
    """
    readings, predicted = _evidence(evaluation)
    if level == NONE:
        return None, decide(readings, predicted=predicted, unread="no audit was requested (--audit none)")
    data = with_cut_logit(evaluation.data if read is None else evaluation.attempt("audit", read) or {}, evaluation.ids)
    models = [name for name in (*MODELS, "retrained") if name in data]
    rows: dict[str, dict[str, Any]] = {name: _splits(data[name], evaluation.ids, MOST[level]) for name in models}
    trained_on, measured = TRAINING, _measured(evaluation)
    if any(splits.get("train") is None or splits["train"].features is None for splits in rows.values()):
        rows, trained_on, measured = {name: divided(splits) for name, splits in rows.items()}, THIRD, {}
    reason = evaluation.not_measured.pop("audit", None) or _reason_unread(rows, evaluation)
    if reason is None:
        head = None if original is None else last_layer(original, rows["original"]["test"])
        for name in rows.keys() - {"retrained"}:  # whose features have another basis
            rows[name]["context"] = Context(original_head=head)
        attack = partial(measure, rows, evaluation.ids, evaluation.names, level, measured, readings, predicted)
        audit = evaluation.attempt("audit", attack)
        if audit is not None:
            pictures = draw_pictures(audit, rows, folder)[0]
            content = {"level": level, "trained_on": trained_on, **plain(audit.json()), "pictures": pictures}
            return content, dict(audit.verdict)
        reason = evaluation.not_measured.pop("audit")
    verdict = decide(readings, predicted=predicted, unread=reason)
    return {"level": level, "pictures": [], "not_measured": {"audit": reason}}, verdict


def _evidence(evaluation: Evaluation) -> tuple[list[Reading], dict[str, Measured]]:
    """Return readings of the task's own metrics that read the classes, and figures of the model's own predictions of these."""
    rows, metrics = evaluation.rows, evaluation.metrics
    row = Row(evaluation.data.get("original", {}), None, evaluation.ids, evaluation.names)
    attacks = {attack.name for attack in find_attacks()}
    readings = [
        reading_of(metric, rows, None if metric.chance is None else metric.chance(row))
        for metric in metrics
        if metric.reads and metric.name not in attacks
    ]
    erased = rows.get("erased", {})
    predicted = {each.title: erased[each.name] for each in metrics if each.predicts and each.name in erased}
    return readings, predicted


def divided(data: Mapping[str, Any]) -> dict[str, Any]:
    """Make the first third of each class's held-out samples 'train' and the rest 'test', in order, since neighbours (frames of a
    video, photos of one day) are alike; without held-out samples change nothing."""
    if "test" not in data:
        return dict(data)
    labels = data["test"].labels
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels[labels >= 0].unique():
        indices = (labels == label).nonzero()[:, 0]
        first[indices[: len(indices) // 3]] = True
    return {**data, "train": choose(data["test"], first), "test": choose(data["test"], ~first)}


def _reason_unread(rows: Rows, evaluation: Evaluation) -> str | None:
    """Say why attacks cannot read these rows, and what to do, by an option that the command has; None if they can."""
    advice = next((metric.lacking for metric in evaluation.metrics if metric.lacking), "give labelled test data")
    if "original" not in rows or "erased" not in rows:
        return "the original or the erased model was not measured"
    for split in ("test", "train"):
        predictions = [rows[name].get(split) for name in ("original", "erased")]
        if any(each is None or each.features is None for each in predictions):
            return f"an audit needs features of {SPLITS[split]}, and this run measured none: {advice}"
    count = int(torch.isin(rows["erased"]["test"].labels, torch.tensor(list(evaluation.ids))).sum())
    least = f"attacks need at least {LEAST} held-out samples of the forgotten classes"
    return f"{least}, and there are {count}: {advice}" if count < LEAST else None


def _measured(evaluation: Evaluation) -> dict[str, dict[str, Measured]]:
    """Return by row the figures of attacks that are metrics of the task and hence measured already."""
    attacks = {attack.compute: attack.name for attack in find_attacks()}
    same = {metric.name: attacks[metric.compute] for metric in evaluation.metrics if metric.compute in attacks}
    return {
        name: {same[key]: figure for key, figure in row.items() if key in same and figure.value is not None}
        for name, row in evaluation.rows.items()
    }


def _splits(data: Mapping[str, Any], ids: Sequence[int], most: int) -> dict[str, Predictions]:
    """Return at most ``most`` predictions of each split; 'forget' defaults to the forgotten classes' training samples."""
    splits = {name: each for name, each in data.items() if name in SPLITS and isinstance(each, Predictions)}
    if "train" in splits and "forget" not in splits:
        forgotten = torch.isin(splits["train"].labels, torch.tensor(list(ids)))
        if forgotten.any():
            splits["forget"] = choose(splits["train"], forgotten)
    return {name: _few(predictions, most) for name, predictions in splits.items()}


def _few(predictions: Predictions, most: int) -> Predictions:
    """Choose at most ``most`` samples, balanced over the classes, in order; the same for every model."""
    labels = predictions.labels.numpy()
    if len(labels) <= most:
        return predictions
    generator, turn = np.random.default_rng(0), np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        turn[generator.permutation(indices)] = np.arange(len(indices))
    return choose(predictions, torch.from_numpy(np.sort(np.argsort(turn, kind="stable")[:most])))
