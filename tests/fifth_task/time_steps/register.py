"""Task of no plugin: one label per time step, logits ``(N, C, T)``, with a tiny model and made data."""

from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

from delete_tasks.evaluation import Measured, Metric
from delete_tasks.evaluation import functional as f
from delete_tasks.evaluation.forget_data import ForgetData
from delete_tasks.evaluation.metrics import change
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import DataSamples, OpenedModel
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.task import LossInputs, LossPoint, Task, register_task

NAMES = ("rest", "walk", "run", "jump")


@DATASETS.register_module()
class MadeSteps(ForgetData, list):
    """Series of three of four activities, eight steps each, in a random order: float32 ``(6, T)`` and labels ``(T,)``."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        order = torch.stack([torch.randperm(4, generator=generator)[:3] for _ in range(count)])
        labels = order.repeat_interleave(8, 1)
        inputs = 2 * torch.eye(4, 6)[labels].transpose(1, 2) + torch.randn(count, 6, 24, generator=generator)
        super().__init__({"inputs": series, "labels": label} for series, label in zip(inputs, labels, strict=True))

    def find_forget_set(self, ids, teacher, config):
        shown = [one["labels"] if teacher is None else teacher(one["inputs"][None]).argmax(1) for one in self]
        return [i for i, labels in enumerate(shown) if torch.isin(labels, torch.tensor(ids)).any()]


@MODELS.register_module()
class StepModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Conv1d(6, 16, 3, padding=1), torch.nn.Linear(16, len(NAMES))

    def forward(self, inputs, labels=None, mode="tensor"):
        logits = self.head(self.body(inputs).relu().transpose(1, 2)).transpose(1, 2)
        return self.loss(logits, labels) if mode == "loss" else logits

    def loss(self, logits, labels):
        return {"loss_ce": F.cross_entropy(logits, labels)}


def _iou(function, row):
    found = row.data["test"]
    return Measured(function(found.confusion, row.ids), found.samples, note="steps of one series depend on each other")


OTHERS = partial(_iou, f.remaining_iou)
METRICS = (
    Metric("forget_iou", "forgotten activity's IoU", "percent", partial(_iou, f.forgotten_iou), limit=5.0, of="series",
           column="forgotten", role="forget"),
    Metric("others_iou", "the other activities' mean IoU", "percent", OTHERS, lower_is_better=False, of="series",
           column="others", role="retain"),
    Metric("others_drop", "loss of it", "points", partial(change, OTHERS, f.drop), limit=5.0, of="series", relative=True),
)  # fmt: skip


class StepsTask(Task):
    name, metrics, forgets = "time_steps", METRICS, "activity"

    def handles(self, model):
        return isinstance(model, StepModel)

    def class_names(self, model, dataset):
        return NAMES

    def loss_points(self, model):
        return [LossPoint("head", model, "loss", lambda logits, labels: LossInputs([logits], [1.0], labels=labels))]

    def classifier(self, model):
        return "head", model.head

    def open(self, paths, data, options):
        models = {row: StepModel() for row in paths}
        for row, path in paths.items():
            load_weights(models[row], path)
        return opened(models, data.get("test"), options.get("classes", ()))


def opened(models, test, ids):
    return Opened({row: OpenedModel(model, model.head) for row, model in models.items()}, NAMES,
                  {"test": DataSamples(MadeSteps(**test))} if test else {}, ids, measured_on="made series",
                  reopen={"data": {"test": test}, "options": {"classes": ids}})  # fmt: skip


TASK = register_task(StepsTask())
