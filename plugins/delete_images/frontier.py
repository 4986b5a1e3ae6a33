"""Frontier of an erased model: what the weights a share of the way back to the original's keep and show."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console

from delete_tasks.display.table import Table
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.functional import accuracy
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.predictions import Data, through_head
from delete_tasks.model.teacher import step_back

from .metrics import METRICS
from .models.spec import ModelSpec
from .opened import opened_model

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
SHOWN = ("remain_acc", "worst_drop", "linear_probe")


def measure_frontier(
    opened: Opened, spec: ModelSpec, ids: Sequence[int], rows: Mapping[str, Data]
) -> list[dict[str, Any]]:
    """Measure the models between 'erased' and 'original' of ``opened``, each with the erased model's class weights of the
    forgotten classes, as ``unlearn.step_back`` makes them. ``rows`` hold the predictions of these two.

    Return by share: ``share``; figures of :data:`SHOWN`; and ``original_head``, the percentage of the forgotten classes' test
    images that the original's last layer still assigns to them.
    """
    metrics = [metric for metric in METRICS if metric.name in SHOWN]
    evaluation = Evaluation(metrics, ids, spec.classes, opened.not_measured)
    evaluation.add("original", rows["original"])
    head, frontier = copy.deepcopy(opened.models["original"].last_layer).cpu(), []
    for share in SHARES:
        data = rows["erased"] if share == 0 else _between(opened, spec, ids, share)
        evaluation.add(str(share), data)
        read = through_head(data["test"], head)
        left = None if read is None else accuracy(read.counts, ids)[0]
        figures = {name: figure.value for name, figure in evaluation.rows[str(share)].items()}
        frontier.append({"share": share, **figures, "original_head": left})
    return frontier


@torch.no_grad()
def _between(opened: Opened, spec: ModelSpec, ids: Sequence[int], share: float) -> Data:
    """Predict with the model a ``share`` of the way back."""
    original, erased = opened.models["original"], opened.models["erased"]
    model = opened_model(copy.deepcopy(erased.module), spec)
    step_back(model.module, original.module, share)
    for name, tensor in model.last_layer.named_parameters():
        tensor[list(ids)] = erased.last_layer.get_parameter(name)[list(ids)]
    row = f"{share:.0%} back"
    return Opened({row: model}, spec.classes, opened.samples, ids).rows()[row]


def show_frontier(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print the figures of :func:`measure_frontier`."""
    columns = ["others", "worst drop", "original head", "linear probe"]
    table = Table(columns, "way back", "Weights part of the way back to the original's (unlearn.step_back), in percent")
    for row in rows:
        values = [row[name] for name in ("remain_acc", "worst_drop", "original_head", "linear_probe")]
        table.add(f"{row['share']:.0%}", [None if value is None else f"{value:.2f}" for value in values])
    table.show(console)
