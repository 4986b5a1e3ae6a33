"""The figures of a cell."""

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..audit.attacks import find_attacks
from ..audit.pictures import choose_points
from ..evaluation import Evaluation, Metric
from ..evaluation.metrics import accuracy
from ..evaluation.opened import Opened
from ..fileio.atomic import save_bytes

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
    """List the metrics of every model, on 'forget', 'train' and 'test'."""
    given = {"acc_f": ("forget", "forget"), "acc_r": ("train", "retain"), "acc_ft": ("test", "forget")}
    given["acc_rt"] = ("test", "retain")
    found = [Metric(name, name, "percent", partial(accuracy, *where)) for name, where in given.items()]
    attacks: dict[str, Metric] = {attack.name: attack for attack in find_attacks("full")}
    return [*found, *(attacks[name] for name in ATTACKS)]


def measure(opened: Opened, row: str, out: Path) -> tuple[dict[str, float | None], dict[str, str]]:
    """Measure figures by column, and the reasons of those that are None. Features of some test samples go into a file of ``out``.

    Args:
        opened: One model and 'forget', 'train' and 'test'.
        row: The model's, or 'logit_cut'.
        out: A folder.
    """
    data: dict[str, Any] = opened.rows(splits=SPLITS)[row]
    evaluation = Evaluation(metrics(), opened.ids, opened.names)
    evaluation.add("model", data)
    found, test = evaluation.rows["model"], data["test"]
    if test.features is not None:
        chosen = choose_points(test.labels.numpy(), opened.ids)
        features = test.features[chosen].numpy().astype(np.float32)
        file = io.BytesIO()
        np.savez(file, features=features, labels=test.labels[chosen].numpy())
        save_bytes(file.getvalue(), out / FEATURES)
    values = {name: None if one.value is None else float(one.value) for name, one in found.items()}
    return values, {name: one.note or "no reason is known" for name, one in found.items() if one.value is None}
