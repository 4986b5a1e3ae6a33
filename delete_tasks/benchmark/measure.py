"""Figures of a cell."""

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..audit.attacks import find_attacks
from ..audit.pictures import choose_points
from ..audit.samples import stages_of
from ..evaluation import Evaluation, Metric
from ..evaluation.functional import per_class_accuracy
from ..evaluation.metrics import accuracy
from ..evaluation.opened import Opened
from ..fileio.atomic import save_bytes
from ..plugins import load_offered, plugin_modules

FEATURES = "features.npz"
ATTACKS = ("membership_svc", "membership_auc", "linear_probe", "hidden_probe", "prototypes_5", "information")
SPLITS = ("forget", "train", "test")


# Attacks and metrics of other packages.
OFFERED: list[Metric] = load_offered("attacks", "ATTACKS") + [
    metric for task in plugin_modules() for metric in load_offered(f"metrics.{task}", "METRICS")
]


@dataclass(frozen=True)
class Column:
    """Column of the tables."""

    name: str  # in cells.csv
    title: str
    best: str | float  # 'low', 'high', or the ideal value
    digits: int  # after the decimal point


COLUMNS = (
    Column("acc_f", "Acc_f", "low", 2),  # accuracy of the forgotten classes on training samples
    Column("acc_r", "Acc_r", "high", 2),  # accuracy of the remaining classes on training samples
    Column("acc_ft", "Acc_ft", "low", 2),  # accuracy of the forgotten classes on test samples
    Column("acc_rt", "Acc_rt", "high", 2),  # accuracy of the remaining classes on test samples
    Column("worst_drop", "worst", "low", 1),  # points that the remaining class loses which loses most, on test samples
    Column("h_mean", "H-mean", "high", 2),  # harmonic mean of Acc_rt and of the drop in Acc_ft
    Column("membership_svc", "MIA", "low", 1),  # forget set taken for training samples by the papers' SVC attack
    Column("membership_auc", "MIA in class", 50.0, 1),  # AUC of training against held-out samples, in percent
    Column("linear_probe", "probe", "low", 1),  # accuracy of a linear probe on the forgotten classes, percent
    Column("hidden_probe", "hidden probe", "low", 1),  # the same of a probe with a hidden layer
    Column("prototypes_5", "5-shot", "low", 1),  # accuracy of nearest prototypes of 5 samples on them, percent
    Column("information", "information", "low", 3),  # about the forget label in the stages' features, nats
    Column("idi", "IDI", 0.0, 2),  # information: 0 as in the retrained networks, 1 as in the original
    Column("gap", "gap", "low", 1),  # mean distance of the READERS to the range of the retrained networks, points
    Column("seconds", "s", "low", 0),  # time of unlearning
    Column("samples", "samples", "low", 0),  # samples read by unlearning, with repetition
    *(Column(each.name, each.column or each.name, "low" if each.lower_is_better else "high", 2) for each in OFFERED),
)

READERS = ("linear_probe", "hidden_probe", "prototypes_5")
COMPARED = ("worst_drop", "h_mean", "idi", "gap")  # with other cells, when the table is made


def metrics() -> list[Metric]:
    """List the metrics of every model, on 'forget', 'train' and 'test'."""
    samples = {"f": ("forget", "forget"), "r": ("train", "retain"), "ft": ("test", "forget"), "rt": ("test", "retain")}
    attacks: dict[str, Metric] = {attack.name: attack for attack in find_attacks("full")}
    accuracies = [Metric(f"acc_{of}", f"acc_{of}", "percent", partial(accuracy, *samples[of])) for of in samples]
    return [*accuracies, *(attacks[name] for name in ATTACKS), *OFFERED]


def measure(opened: Opened, row: str, out: Path) -> tuple[dict[str, float | None], dict[str, str], list[float | None]]:
    """Measure the figures of ``row`` ('logit_cut', or the model's name) on 'forget', 'train' and 'test', and save features of
    some test samples in the folder ``out``; return the figures by column, the reasons for those that are None, and the percentage
    of each class's test samples that are predicted as it (None without samples)."""
    stages = stages_of(opened, next(iter(opened.models))) or []
    data: dict[str, Any] = opened.rows(splits=SPLITS, stages=stages)[row]
    evaluation = Evaluation(metrics(), opened.ids, opened.names)
    evaluation.add("model", data)
    figures, test = evaluation.rows["model"], data["test"]
    if test.features is not None:
        chosen = choose_points(test.labels.numpy(), opened.ids)
        features = test.features[chosen].numpy().astype(np.float32)
        file = io.BytesIO()
        np.savez(file, features=features, labels=test.labels[chosen].numpy())
        save_bytes(file.getvalue(), out / FEATURES)
    values = {name: None if figure.value is None else float(figure.value) for name, figure in figures.items()}
    reasons = {name: figure.note or "unknown reason" for name, figure in figures.items() if figure.value is None}
    return values, reasons, per_class_accuracy(test.counts)
