"""Dense prediction as a task, whose location is a position of the output; and samples passed to erase() for it: images, or images
and label maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation.metrics import location_ious
from delete_tasks.losses.masks import is_forgotten
from delete_tasks.model.head import ClassLayer
from delete_tasks.task import Task, register_task

from ...models.classifier import NO_LABEL, ImageClassifier, cast_for, predict_batch
from ...models.outputs import at_size, run
from ...recipes import DENSE_RECIPES
from ...task import ImagesTask
from ..samples import LABEL_KEYS, Samples, UserData, images_and_labels, joined

READ_BATCH = 4
MAP_KEYS = (*LABEL_KEYS, "mask", "masks")
PADDING_KEY = "pixel_mask"  # of transformers' image processors: 0 where a batch is padded
VOID = 255


class DenseModel(ImageClassifier):
    """Network with logits ``(N, C, *locations)``; ``layers`` are the names of its class layers, the prediction's first."""

    task = "dense"

    def __init__(self, network: nn.Module, num_classes: int, layers: Sequence[str] = ()) -> None:
        super().__init__(network, num_classes=num_classes)
        self.layers = list(layers)

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        retain: Tensor | None = None,
        mode: str = "tensor",
        valid: Tensor | None = None,
    ) -> Any:
        """Compute logits ``(N, C, *locations)`` or, with ``mode='loss'``, a dict of losses at the logits' own size, as
        :meth:`ImageClassifier.forward`. ``labels`` and ``valid`` (booleans, False on padding) are ``(N, *any size)``."""
        logits = run(self.network, cast_for(self.network, inputs), self.num_classes)  # type: ignore[arg-type]
        if mode != "loss":
            return logits[0]
        size = logits[0].shape[2:]
        labels, valid = (None if part is None else at_size(part, size) for part in (labels, valid))
        if retain is not None:
            retain = retain.view(-1, *(1 for _ in size))
        return self.loss_by_logits(logits, labels, retain, valid)


class DenseTask(ImagesTask):
    """Task of :class:`DenseModel`, only for ``erase()``, which chooses and checks the samples before a run."""

    name = "dense"
    metrics = location_ious("test", "test images")
    recipes = DENSE_RECIPES
    open = None
    finish = Task.finish  # not the classifiers'

    def classifier(self, model: Any) -> tuple[str, nn.Module]:
        if not model.layers:
            raise UnsupportedModelError(f"the last layer of {type(model.network).__name__} was not found")
        return model.layers[0], model.network.get_submodule(model.layers[0])

    def class_layers(self, model: Any) -> list[ClassLayer]:
        return [ClassLayer(name, model.network.get_submodule(name)) for name in model.layers]


TASK = register_task(DenseTask())


@dataclass
class MapSamples(Samples):
    """Samples whose labels are maps."""

    classes: int = 0  # C
    dimensions: int = 2  # of the locations

    @classmethod
    def of(cls, samples: Samples, classes: int, dimensions: int) -> "MapSamples":
        """Read the labels of samples as maps."""
        return cls(**vars(samples), classes=classes, dimensions=dimensions)

    def batch(self, items: list[Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Collate images; labels int64 ``(N, *locations)``, -1 where void (255 or negative); and booleans, False on padding, from
        a dict's 'pixel_mask'. Both are None if missing. Raise :class:`RequestError` without images, or for other labels."""
        collated = self.collated(items)
        images, labels = images_and_labels(collated, self.argument, MAP_KEYS)
        valid = collated.get(PADDING_KEY) if isinstance(collated, Mapping) else None
        valid = None if valid is None else torch.as_tensor(valid).bool()
        if labels is not None:
            labels = without_padding(self._label_maps(torch.as_tensor(labels), len(images)), valid)
        return images, labels, valid

    def _label_maps(self, labels: Tensor, images: int) -> Tensor:
        if labels.ndim == self.dimensions + 2 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        is_integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.ndim != self.dimensions + 1 or len(labels) != images or not is_integer:
            raise RequestError(
                f"{self.argument}: labels of shape {tuple(labels.shape)} and type {labels.dtype} for {images} images; expected "
                f"label maps, one integer class per location (N, {', '.join('HWD'[: self.dimensions])}), or no labels"
            )
        labels = labels.long()
        void = (labels < 0) | (labels == VOID)
        count = self.classes if self.class_of is None else len(self.class_of)
        too_high = labels[~void & (labels >= count)]
        if len(too_high):
            raise RequestError(
                f"{self.argument}: a label map holds the label {int(too_high.max())}, and there are {count} classes; expected 0 "
                f"to {count - 1}, and {VOID} or a negative number where a location is void"
            )
        return self.as_classes(labels.masked_fill(void, NO_LABEL))


def without_padding(labels: Tensor, valid: Tensor | None) -> Tensor:
    """Set label maps ``(N, *locations)`` to -1 on padding, where ``valid``, booleans ``(N, *any size)``, is False."""
    return labels if valid is None else labels.masked_fill(~at_size(valid, labels.shape[1:]), NO_LABEL)


def contain_classes(samples: MapSamples, ids: Sequence[int], model: ImageClassifier, seed: int) -> tuple[Tensor, bool]:
    """Mark samples with a class of ``ids``, by label map or else prediction, bool ``(N,)``; return if all have label maps."""
    matches, labelled = [], True
    for images, labels, valid in samples.batches(range(len(samples)), READ_BATCH, seed):
        if labels is None:
            labels, labelled = without_padding(predict_batch(model, images).argmax(1).cpu(), valid), False
        matches.append(is_forgotten(labels, ids).flatten(1).any(1))
    return torch.cat(matches), labelled


class MapData(UserData):
    """Dataset of a run over samples of dense models: ``forget`` contain a forgotten class, by which ``labels`` count them,
    ``retain`` none. A batch has ``inputs`` and, if any, ``labels``, ``valid`` and ``retain``, for ``DenseModel.forward``."""

    with_labels = False  # the method reads label maps

    def collate(self, items: list[tuple[Any, Any, int]]) -> dict[str, Tensor]:
        """Collate a batch: the forget set's samples, then those of the retain set."""
        parts = [self.forget.batch([item[0] for item in items])]
        if self.retain is not None:
            parts.append(self.retain.batch([item[1] for item in items]))
        images = joined([part[0] for part in parts], "images", self.retain)
        padded = any(part[2] is not None for part in parts)
        if padded and self.views is not None:
            raise RequestError("an image's view no longer fits its pixel_mask; use views='none', or leave padding out")
        batch = {"inputs": self.views_of(images, items)}
        if len(parts) > 1:
            batch["retain"] = torch.arange(len(images)) >= len(items)
        if self.with_labels:
            batch["labels"] = joined([part[1] for part in parts], "label maps", self.retain)
        if padded:
            whole = [torch.ones_like(part[0][:, 0], dtype=torch.bool) if part[2] is None else part[2] for part in parts]
            batch["valid"] = joined(whole, "pixel_mask", self.retain)
        return batch
