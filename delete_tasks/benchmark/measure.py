"""The figures of a cell."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import save_bytes
from ..audit.attack import find_attacks
from ..audit.pictures import choose_points
from ..audit.samples import AuditModel, read_rows
from ..evaluation import Evaluation, Metric, cut
from ..evaluation.metrics import accuracy

FEATURES = "features.npz"
ATTACKS = ("membership_svc", "membership_auc", "linear_probe", "prototypes_5")
SPLITS = ("forget", "train", "test")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: In cells.csv.
        title: In the tables.
        best: 'low', 'high', or a number that is best: the nearest to it.
        digits: Behind the point.
        meaning: In words.
    """

    name: str
    title: str
    best: str | float
    digits: int
    meaning: str


COLUMNS = (
    Column("acc_f", "Acc_f", "low", 2, "accuracy of the forgotten classes on training samples"),
    Column("acc_r", "Acc_r", "high", 2, "accuracy of the remaining classes on training samples"),
    Column("acc_ft", "Acc_ft", "low", 2, "accuracy of the forgotten classes on test samples"),
    Column("acc_rt", "Acc_rt", "high", 2, "accuracy of the remaining classes on test samples"),
    Column("h_mean", "H-mean", "high", 2, "harmonic mean of Acc_rt and of the drop in Acc_ft"),
    Column("membership_svc", "MIA", "low", 1, "forget set taken for training samples by the papers' SVC attack, percent"),
    Column("membership_auc", "MIA in class", 50.0, 1,
           "forgotten classes' training samples told from their held-out ones, AUC, percent; 50 is a guess"),
    Column("linear_probe", "probe", "low", 1, "forgotten classes read by a linear probe, percent"),
    Column("prototypes_5", "5-shot", "low", 1, "forgotten classes as the nearest prototype of 5 samples, percent"),
    Column("seconds", "s", "low", 0, "seconds of unlearning"),
    Column("samples", "samples", "low", 0, "samples read by unlearning, one as often as it was read"),
)  # fmt: skip


def metrics() -> list[Metric]:
    """What is measured of every model, on 'forget', 'train' and 'test'."""
    given = {"acc_f": ("forget", "forget"), "acc_r": ("train", "retain"), "acc_ft": ("test", "forget")}
    given["acc_rt"] = ("test", "retain")
    found = [Metric(name, name, "percent", partial(accuracy, *where)) for name, where in given.items()]
    attacks: dict[str, Metric] = {attack.name: attack for attack in find_attacks("full")}
    return [*found, *(attacks[name] for name in ATTACKS)]


def measure(
    model: AuditModel, ids: Sequence[int], names: Sequence[str], counts: Mapping[str, int], logit_cut: bool, out: Path
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Figures by column, and the reasons of those that are None. Features of some test samples go into a file of ``out``.

    Args:
        model: Over the data.
        ids: The forgotten classes.
        names: Of all classes.
        counts: Batches by the name of the data.
        logit_cut: Cut the forgotten classes' logits off first.
        out: A folder.
    """
    rows: dict[str, Any] = {split: read_rows(model, split, counts[split], [], f"Reading {split}") for split in SPLITS}
    if logit_cut:
        rows = {split: cut(found, ids) for split, found in rows.items()}
    evaluation = Evaluation(metrics(), ids, names)
    evaluation.add("model", rows)
    found = evaluation.rows["model"]
    test = rows["test"]
    if test.features is not None:
        chosen = choose_points(test.labels.numpy(), ids)
        features = test.features[chosen].numpy().astype(np.float32)
        file = io.BytesIO()
        np.savez(file, features=features, labels=test.labels[chosen].numpy())
        save_bytes(file.getvalue(), out / FEATURES)
    values = {name: None if one.value is None else float(one.value) for name, one in found.items()}
    return values, {name: one.note or "no reason is known" for name, one in found.items() if one.value is None}
