"""Detection as a task: the location is an anchor, a proposal or a query."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delete_images.models.model_file import save_model
from delete_images.task import erased_spec
from delete_tasks.model.facts import REPLACED
from delete_tasks.model.head import ClassLayer
from delete_tasks.model.loss_point import LossInputs, LossPoint
from delete_tasks.task import Recipes, Run, Task, register_task

from .measure import METRICS
from .method import DetectorDELETE
from .model import SEEN, Detector, remove_classes

METHOD = DetectorDELETE.__name__


class DetectionTask(Task):
    """Task of :class:`Detector` models."""

    name, samples = "detection", "images"
    metrics = METRICS
    recipes = Recipes({METHOD: {"steps": 300, "batch_size": 8, "schedule": "warmup_cosine"}})

    def handles(self, model: nn.Module) -> bool:
        return isinstance(model, Detector)

    def class_names(self, model: Any, dataset: Any) -> Sequence[str]:
        return dataset.class_names

    def loss_points(self, model: Any) -> list[LossPoint]:
        def read(outputs: Sequence[Tensor]) -> LossInputs:  # the original has no second output: its layers are its own
            return LossInputs(list(outputs) * (3 - len(outputs)), [1.0, model.head_weight])

        return [LossPoint("detector", model, "loss_by_outputs", read)]

    def decisions(self, model: Any, logits: Tensor) -> Tensor:
        scores = model.scores(logits)
        return torch.cat([scores, torch.full_like(scores[:, :1], SEEN)], 1).clamp(min=1e-9).log()

    def classifier(self, model: Any) -> tuple[str, nn.Module]:
        name = model.parts.classes[0]
        return name, model.network.get_submodule(name)

    def class_layers(self, model: Any) -> Sequence[ClassLayer]:
        return []  # finish() removes rows of several anchors

    def finish(self, runner: Run) -> dict[str, Any]:
        model, ids = runner.unwrapped_model, runner.selection.forget_ids
        names = [] if runner.recipe.keep_row else remove_classes(model.network, model.parts, ids)
        layers = [model.network.get_submodule(name) for name in names]
        runner.outcome.facts.change(REPLACED, layers, classes=len(ids), others_centred=False)
        return {"rows_replaced": names}

    def published(self, model: Any, ids: Sequence[int] = ()) -> nn.Module:
        return model.network

    def save_erased(self, model: Any, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        """Write a model folder at ``path`` if the model has a description, else ``path.pth``."""
        spec = erased_spec(names, ids, dataset)
        if spec is None:
            return super().save_erased(model, names, ids, dataset, path)
        return str(save_model(path, model.network, spec))


TASK = register_task(DetectionTask())
