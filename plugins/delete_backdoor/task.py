"""Cleaning of backdoored classifiers as a task: the location is a poisoned sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from delete_images.models.classifier import ImageClassifier
from delete_images.task import ImagesTask
from delete_tasks.evaluation import Metric
from delete_tasks.model.head import ClassLayer
from delete_tasks.task import Run

from . import opened
from .metrics import METRICS
from .recipes import RECIPES


@MODELS.register_module()
class BackdoorClassifier(ImageClassifier):
    """ImageClassifier of the backdoor task, without dropout, so that student and teacher begin with the same logits."""

    task = "backdoor"

    def forward(self, inputs: Tensor, *args: Any, teacher_inputs: Tensor | None = None, **kwargs: Any) -> Any:
        """Ignore ``teacher_inputs``, which the teacher gets in place of ``inputs``."""
        return super().forward(inputs, *args, **kwargs)

    def train(self, mode: bool = True) -> "BackdoorClassifier":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.training = False
        return self


class BackdoorTask(ImagesTask):
    """Task of :class:`BackdoorClassifier` models: every poisoned sample is a location; the target stays one of the classes."""

    name = "backdoor"
    recipes = RECIPES
    metrics: Sequence[Metric] = METRICS
    forgets, names_are_forgotten = "backdoor to class", False

    def class_layers(self, model: Any) -> list[ClassLayer]:
        return []  # the target stays a class

    def finish(self, runner: Run) -> dict[str, Any]:
        return {"rows_replaced": []}

    def save_erased(self, model: Any, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        return super().save_erased(model, names, (), dataset, str(Path(path).with_name("cleaned")))

    open = staticmethod(opened.open_backdoored)
