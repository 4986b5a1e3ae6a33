"""The audit of a command that erases: of what it measured anyway, or of the samples that its task reads for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation import Evaluation
from ..evaluation.metric import Measured
from ..evaluation.predictions import Predictions, choose
from ..fileio.environment import plain
from .attack import SPLITS
from .attacks import find_attacks
from .depth import UNKNOWN
from .pictures import draw_pictures
from .results import MODELS, measure, with_cut_logit

NONE = "none"
MOST = {"quick": 2000, "full": 20_000}  # samples of a split: an audit is to take a part of a run's time
TRAINING, THIRD = "labelled training samples", "a third of the held-out samples"  # what attacks are trained on
ADVICE = "give this command labelled data to measure on, or delete-tasks audit (--data, --test)"
LEAST = 5  # held-out samples of the forgotten classes: of fewer no difference would be seen

Rows = Mapping[str, Mapping[str, Any]]


def audit_run(
    evaluation: Evaluation, level: str, folder: Path, read: Callable[[], Rows] | None = None
) -> dict[str, Any] | None:
    """Attack the rows that a command measured, and draw audit.png and tsne.png beside its results.

    Args:
        evaluation: With its rows.
        level: 'none', 'quick' or 'full'.
        folder: The work dir.
        read: Gives predictions by row and name of the data; None takes what the rows were measured from.

    Returns:
        As ``audit`` of results.json: None where none was wanted; else at least ``level``, ``verdict``, ``pictures`` and
        ``not_measured``, and, if attacks read, ``trained_on``: :data:`TRAINING`, or :data:`THIRD` where the run has no others.
    """
    if level == NONE:
        return None
    given = with_cut_logit(evaluation.data if read is None else evaluation.attempt("audit", read) or {}, evaluation.ids)
    rows: dict[str, dict[str, Any]] = {
        name: _rows(given[name], evaluation.ids, MOST[level]) for name in (*MODELS, "retrained") if name in given
    }
    trained_on, known = TRAINING, _known(evaluation)
    if any(data.get("train") is None or data["train"].features is None for data in rows.values()):
        rows, trained_on, known = {name: divided(data) for name, data in rows.items()}, THIRD, {}
    reason = evaluation.not_measured.pop("audit", None) or why_none(rows, evaluation.ids)
    if reason is None:
        audit = evaluation.attempt("audit", partial(measure, rows, evaluation.ids, evaluation.names, level, known))
        if audit is not None:
            pictures = draw_pictures(audit, rows, folder)[0]
            return {"level": level, "trained_on": trained_on, **plain(audit.json()), "pictures": pictures}
        reason = evaluation.not_measured.pop("audit")
    verdict: dict[str, Any] = {"word": UNKNOWN, "words": {}, "of": None, "sentence": reason}
    return {"level": level, "verdict": verdict, "pictures": [], "not_measured": {"audit": reason}}


def divided(data: Mapping[str, Any]) -> dict[str, Any]:
    """A row's data with the first third of each class's held-out samples as 'train' and the rest as 'test': an attacker who has
    labelled samples of everything, and none of the run's own. They are taken in their order, since neighbours (frames of a
    video, photos of one day) are alike. Without held-out samples it is as it was.
    """
    if "test" not in data:
        return dict(data)
    labels = data["test"].labels
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels[labels >= 0].unique():
        own = (labels == label).nonzero()[:, 0]
        first[own[: len(own) // 3]] = True
    parts = {"train": choose(data["test"], first), "test": choose(data["test"], ~first)}
    return {name: given for name, given in data.items() if name not in parts} | parts


def why_none(rows: Rows, ids: Sequence[int]) -> str | None:
    """Why nothing can be read from these rows, and what to do; None where it can."""
    if "original" not in rows or "erased" not in rows:
        return "the original or the erased model was not measured"
    for split in ("test", "train"):
        given = [rows[name].get(split) for name in ("original", "erased")]
        if any(one is None or one.features is None for one in given):
            return f"an audit takes features of {SPLITS[split]}, and this run measured none; {ADVICE}"
    asked = int(torch.isin(rows["erased"]["test"].labels, torch.tensor(list(ids))).sum())
    if asked < LEAST:
        return (
            f"{asked} held-out samples of the forgotten classes to ask attacks about tell nothing, {LEAST} do; {ADVICE}"
        )
    return None


def _known(evaluation: Evaluation) -> dict[str, dict[str, Measured]]:
    """By row, the figures of attacks that the table has already: those that are metrics of the task, too."""
    attacks = {attack.compute: attack.name for attack in find_attacks()}
    same = {metric.name: attacks[metric.compute] for metric in evaluation.metrics if metric.compute in attacks}
    return {
        name: {same[key]: found for key, found in row.items() if key in same and found.value is not None}
        for name, row in evaluation.rows.items()
    }


def _rows(data: Mapping[str, Any], ids: Sequence[int], most: int) -> dict[str, Predictions]:
    """Predictions of a row by the attacks' names of the data; of training samples those of the forgotten classes are 'forget'."""
    found = {split: _few(one, most) for split, one in data.items() if split in SPLITS and isinstance(one, Predictions)}
    if "train" in found and "forget" not in found:
        own = torch.isin(data["train"].labels, torch.tensor(list(ids)))
        if own.any():
            found["forget"] = _few(choose(data["train"], own), most)
    return found


def _few(given: Predictions, most: int) -> Predictions:
    """At most so many rows, of each class as many as of another, in their order; the same of every model."""
    labels = given.labels.numpy()
    if len(labels) <= most:
        return given
    generator, turn = np.random.default_rng(0), np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        turn[generator.permutation(own)] = np.arange(len(own))
    return choose(given, torch.from_numpy(np.sort(np.argsort(turn, kind="stable")[:most])))
