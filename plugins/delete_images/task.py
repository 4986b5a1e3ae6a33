"""Image classification as a task: the location is an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import Metric
from delete_tasks.loss_point import LossInputs, LossPoint
from delete_tasks.progress import track
from delete_tasks.task import Open, Task, neutral_names

from . import opened
from .architectures import classifier_of
from .classifier import NO_LABEL, ImageClassifier, output_weights, predict_batch
from .data import ImageData
from .datasets import ImageDataset, collate_images
from .finish import finish
from .metrics import METRICS
from .model_file import save_model
from .spec import spec_from_json


def read_logits(logits: Sequence[Tensor], labels: Tensor | None = None, retain: Tensor | None = None) -> LossInputs:
    """The arguments of ``ImageClassifier.loss_by_logits`` in the core's terms."""
    return LossInputs(list(logits), output_weights(len(logits)), labels=labels, retain=retain)


def _beside(dataset: Any) -> list[str] | None:
    """Names of the samples that join those of the forget set."""
    beside = getattr(dataset, "retain", None)
    if beside is None or isinstance(beside, ImageData):
        return None if beside is None else list(beside.names)
    return [f"{index:06d}" for index in beside.indices]


class ImagesTask(Task):
    """The task of :class:`ImageClassifier` models.

    Datasets are those of :mod:`delete_images.datasets`.
    """

    name = "images"
    metrics: Sequence[Metric] = METRICS
    teacher_temperature = 0.25
    not_deep: str | None = None
    audit_advice = "give --test and --train-data, or use delete-tasks audit"

    def handles(self, model: Any) -> bool:
        return isinstance(model, ImageClassifier) and model.task == self.name

    def check(self, model: Any) -> None:
        if is_model_wrapper(model.network):
            raise UnsupportedModelError(
                f"the network is wrapped in {type(model.network).__name__}; give the network itself (its .module)"
            )

    def class_names(self, model: Any, dataset: Any) -> Sequence[str]:
        names = tuple(dataset.class_names)
        if model.num_classes is not None and len(names) != model.num_classes:
            raise RequestError(
                f"the data name {len(names)} classes and the model has {model.num_classes}; give the names of all logits, in "
                "their order"
            )
        return names

    def loss_points(self, model: Any) -> list[LossPoint]:
        return [LossPoint("classifier", model, "loss_by_logits", read_logits)]

    def training_flags(self, model: Any) -> list[nn.Module]:
        # GoogLeNet and Inception drop their auxiliary logits in eval mode. A forward that asks for the mode on behalf of
        # dropout does not: with the flag on, its teacher would be a random one.
        asked = type(model.network).forward.__code__.co_names
        return [model.network] if "training" in asked and not any("drop" in name for name in asked) else []

    def classifier(self, model: Any) -> tuple[str, nn.Module]:
        found = classifier_of(model.network, model.num_classes)
        return found.name, found.module

    def finish(self, runner: Any) -> dict[str, Any]:
        return finish(runner)

    def fingerprint(self, dataset: Any, select: str) -> list[str]:
        if select == "teacher":
            return list(dataset.names)
        return [f"{name} {label}" for name, label in zip(dataset.names, dataset.labels, strict=True)]

    def find_forget_set(self, dataset: Any, ids: Sequence[int], teacher: Any, config: Any) -> list[int]:
        if teacher is None:
            # Whoever gives images without labels gives them to be forgotten.
            return np.flatnonzero(np.isin(dataset.labels, [*ids, NO_LABEL])).tolist()
        plain = dataset.without_augmentation()
        loader = torch.utils.data.DataLoader(plain, batch_size=256, collate_fn=collate_images)
        predicted = [
            predict_batch(teacher, batch["inputs"]).argmax(1).cpu()
            for batch in track(loader, len(loader), "What the original sees")
        ]
        return torch.isin(torch.cat(predicted), torch.tensor(list(ids))).nonzero().flatten().tolist()

    def sample_names(self, dataset: Any, indices: Sequence[int]) -> list[str]:
        return [dataset.names[index] for index in indices]

    def unlabelled(self, dataset: Any, indices: Sequence[int]) -> int:
        return int((dataset.labels[list(indices)] == NO_LABEL).sum())

    def retain_samples(self, dataset: Any) -> list[str] | None:
        return None if getattr(dataset, "public", False) else _beside(dataset)

    def add_public(self, dataset: Any, data: str) -> None:
        if not isinstance(dataset, ImageDataset):
            raise RequestError(
                f"{self.name} reads public data beside an ImageDataset alone, got a {type(dataset).__name__}"
            )
        dataset.add_public(data)

    def public_samples(self, dataset: Any) -> list[str] | None:
        return _beside(dataset) if getattr(dataset, "public", False) else None

    def without_labels(self, dataset: Any) -> None:
        dataset.labels = np.full(len(dataset), NO_LABEL, np.int64)

    def published_meta(self, names: Sequence[str], ids: Sequence[int], dataset: Any) -> dict[str, Any]:
        described = getattr(dataset, "dataset", dataset).spec_json
        neutral = neutral_names(names, ids)
        return {"classes": neutral} if described is None else {"spec": {**described, "classes": neutral}}

    def save_erased(self, model: Any, meta: dict[str, Any], path: str) -> str:
        """A model folder at ``path`` where the model has a description, else ``path.pth``."""
        if "spec" in meta:
            return str(save_model(path, model.network, spec_from_json(meta["spec"], "the model's description")))
        return super().save_erased(model, meta, path)

    open: Open | None = staticmethod(opened.open_images)
