"""Image classification as a task: the location is an image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from msgspec.structs import replace
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import Metric
from delete_tasks.model.loss_point import LossInputs, LossPoint
from delete_tasks.task import Open, Run, Task, neutral_names

from . import opened
from .metrics import METRICS
from .models.architectures import classifier_of
from .models.classifier import ImageClassifier, output_weights
from .models.finish import finish
from .models.hub_folder import describe
from .models.model_file import WEIGHTS_NAME, ModelSpec, save_model
from .recipes import RECIPES


def read_logits(
    logits: Sequence[Tensor], labels: Tensor | None = None, retain: Tensor | None = None, valid: Tensor | None = None
) -> LossInputs:
    """Convert the arguments of a classifier's or a dense model's loss method to the core's loss inputs."""
    return LossInputs(list(logits), output_weights(len(logits)), labels=labels, valid=valid, retain=retain)


def erased_spec(names: Sequence[str], ids: Sequence[int], dataset: Any) -> ModelSpec | None:
    """Make the description of the erased model, without the names of ``ids``; None if the dataset has no description."""
    return None if dataset.spec is None else replace(dataset.spec, classes=tuple(neutral_names(names, ids)))


class ImagesTask(Task):
    """Task of :class:`ImageClassifier` models, with the datasets of :mod:`delete_images.data.datasets`."""

    name, samples = "images", "images"
    metrics: Sequence[Metric] = METRICS
    recipes = RECIPES

    def handles(self, model: Any) -> bool:
        if not isinstance(model, ImageClassifier) or model.task != self.name:
            return False
        if is_model_wrapper(model.network):
            raise UnsupportedModelError(
                f"the network is wrapped in {type(model.network).__name__}; give the network itself (its .module)"
            )
        return True

    def class_names(self, model: Any, dataset: Any) -> Sequence[str]:
        names = tuple(dataset.class_names)
        if model.num_classes is not None and len(names) != model.num_classes:
            raise RequestError(
                f"the data name {len(names)} classes, but the model has {model.num_classes}; name all logits, in their order"
            )
        return names

    def loss_points(self, model: Any) -> list[LossPoint]:
        return [LossPoint("classifier", model, "loss_by_logits", read_logits)]

    def training_flags(self, model: Any) -> list[nn.Module]:
        # GoogLeNet and Inception omit their auxiliary logits in eval mode. A forward that reads the flag for dropout must stay
        # in eval mode, or its teacher would be random.
        names = type(model.network).forward.__code__.co_names
        return [model.network] if "training" in names and not any("drop" in name for name in names) else []

    def classifier(self, model: Any) -> tuple[str, nn.Module]:
        layer = classifier_of(model.network, model.num_classes)
        return layer.name, layer.module

    def finish(self, runner: Run) -> dict[str, Any]:
        return finish(runner)

    def published(self, model: Any, ids: Sequence[int] = ()) -> nn.Module:
        return model.network

    def residue(self, original: Path, names: Sequence[str]) -> list[tuple[str, Path]]:
        """List the original's weights, and all files of its model folder that hold or name the classes."""
        items, folder = super().residue(original, names), original.parent
        if original.name == WEIGHTS_NAME:
            found = [(self.content(path, names), path) for path in sorted(folder.rglob("*")) if path.is_file()]
            items += [(what, path) for what, path in found if what is not None and path.name != WEIGHTS_NAME]
        return items

    def content(self, path: Path, names: Sequence[str]) -> str | None:
        """Describe what a file of a model folder holds of the classes ``names``; None if nothing."""
        from delete_tasks.report.residue import named_in

        return f"file of the original model that names the {self.forgets}" if named_in(path, names) else None

    def save_erased(self, model: Any, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        """Write a model folder at ``path`` if the model has a description, else ``path.pth``."""
        spec = erased_spec(names, ids, dataset)
        if spec is None:
            return super().save_erased(model, names, ids, dataset, path)
        return str(save_model(path, model.network, spec))

    def export_inputs(self, model: Any, samples: Any) -> Iterator[Tensor]:
        if samples is not None:
            return super().export_inputs(model, samples)
        return iter([torch.randn(16, 3, *model.prepare.preprocessing.size, generator=torch.Generator().manual_seed(0))])

    open: Open | None = staticmethod(opened.open_images)
    hub: Any = staticmethod(describe)
