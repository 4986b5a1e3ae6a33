"""A caller's samples for dense models: images, or images and label maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError
from delete_tasks.losses.masks import is_forgotten

from ...data.views import viewed
from ...models.classifier import NO_LABEL
from ...models.outputs import at_size
from ..samples import LABEL_KEYS, Samples, UserData, images_and_labels

MAP_KEYS = (*LABEL_KEYS, "mask", "masks")
PADDING_KEY = "pixel_mask"  # of transformers' image processors: 0 where a batch was padded
VOID = 255


@dataclass
class MapSamples(Samples):
    """Samples whose labels are maps.

    Attributes:
        classes: C.
        dimensions: Of the locations.
    """

    classes: int = 0
    dimensions: int = 2

    @classmethod
    def of(cls, samples: Samples, classes: int, dimensions: int) -> MapSamples:
        """Read the same samples in this way."""
        given = {field.name: getattr(samples, field.name) for field in dataclasses.fields(samples)}
        return cls(**given, classes=classes, dimensions=dimensions)

    def batch(self, items: list[Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Images; labels int64 ``(N, *locations)``, -1 where they are void (255 or negative), None where there are none; and
        booleans of which locations are no padding, from a dict's 'pixel_mask', None where there is none.

        Raises:
            RequestError: No tensor of images, or labels that are not one class a location.
        """
        collated = self.collated(items)
        images, labels = images_and_labels(collated, self.what, MAP_KEYS)
        valid = collated.get(PADDING_KEY) if isinstance(collated, Mapping) else None
        valid = None if valid is None else torch.as_tensor(valid).bool()
        if labels is not None:
            labels = self._labels(torch.as_tensor(labels), len(images))
            labels = labels if valid is None else labels.masked_fill(~at_size(valid, labels.shape[1:]), NO_LABEL)
        return images, labels, valid

    def _labels(self, labels: Tensor, images: int) -> Tensor:
        if labels.ndim == self.dimensions + 2 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        kind = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
        if labels.ndim != self.dimensions + 1 or len(labels) != images or kind:
            raise RequestError(
                f"{self.what}: labels of shape {tuple(labels.shape)} and type {labels.dtype} for {images} images; expected label "
                f"maps, one integer class a location (N, {', '.join('HWD'[: self.dimensions])}), or no labels"
            )
        labels = labels.long()
        void = (labels < 0) | (labels == VOID)
        known = self.classes if self.class_of is None else len(self.class_of)
        wrong = labels[~void & (labels >= known)]
        if len(wrong):
            raise RequestError(
                f"{self.what}: a label map holds the label {int(wrong.max())}, and there are {known} classes; expected 0 to "
                f"{known - 1}, and {VOID} or a negative number where a location is void"
            )
        return self.as_classes(labels.masked_fill(void, NO_LABEL))


def showing(
    samples: MapSamples, ids: Sequence[int], predict: Callable[[Tensor], Tensor], size: int, seed: int
) -> tuple[Tensor, bool]:
    """Find the samples that show one of the classes ``ids`` somewhere: by their label maps or else by the
    original's predictions.

    Args:
        samples: All of them are read once.
        ids: The classes.
        predict: A batch of images -> classes ``(N, *locations)``.
        size: Of the batches.
        seed: Of what is random in a sample.

    Returns:
        Booleans ``(len(samples),)``, and whether all have label maps.
    """
    found, labelled = [], True
    for images, labels, valid in samples.batches(range(len(samples)), size, seed):
        if labels is None:
            labels, labelled = predict(images), False
            if valid is not None:
                labels = labels.masked_fill(~at_size(valid, labels.shape[1:]), NO_LABEL)
        found.append(is_forgotten(labels, ids).flatten(1).any(1))
    return torch.cat(found), labelled


def keep_only(samples: Samples, keep: Tensor) -> None:
    """Leave out, in place, the samples where ``keep``, booleans ``(len(samples),)``, is False."""
    samples.indices = [samples.indices[number] for number in keep.nonzero().flatten().tolist()]


class MapData(UserData):
    """The dataset of a run over samples of dense models. A batch is a dict of ``inputs``, and where there are any ``labels``,
    ``valid`` and ``retain``, as :meth:`delete_images.memory.dense.task.DenseModel.forward` takes them.

    Args:
        forget: All of it is the forget set.
        class_names: Of all logits.
        ids: The classes to forget.
        retain: Samples that show none of them; a random one joins each of ``forget``.
        views: From one sample's image tensor to a random view of it, or None.
        with_labels: The method reads them.
    """

    def __init__(
        self,
        forget: MapSamples,
        class_names: Sequence[str],
        ids: Sequence[int],
        retain: MapSamples | None,
        views: Any,
        with_labels: bool,
    ) -> None:
        super().__init__(forget, torch.full((len(forget),), NO_LABEL), class_names, ids, retain, views)
        self.with_labels = with_labels

    # Samples were chosen, and what they lack was refused, before the run.

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        return list(range(len(self)))

    def fingerprint(self, select: str) -> list[str]:
        return list(self.names)

    def unlabelled(self, indices: Sequence[int]) -> int:
        return 0

    def without_labels(self) -> None:
        raise RequestError("erase() chooses the samples itself; leave select out")

    def collate(self, items: list[tuple[Any, Any, int]]) -> dict[str, Tensor]:
        """Collate a batch: the forget set's samples, then those of the retain set."""
        parts = [self.forget.batch([item[0] for item in items])]
        if self.retain is not None:
            parts.append(self.retain.batch([item[1] for item in items]))
        images = _joined([part[0] for part in parts], "images")
        padded = any(part[2] is not None for part in parts)
        if self.views is not None:
            if padded:
                raise RequestError(
                    "a view of an image no longer fits its pixel_mask; use views='none', or leave padding out"
                )
            seeds = [item[2] for item in items]
            images = viewed(images, self.views, [*seeds, *(seed + 1 for seed in seeds)][: len(images)])
        batch = {"inputs": images}
        if len(parts) > 1:
            batch["retain"] = torch.arange(len(images)) >= len(items)
        if self.with_labels:
            batch["labels"] = _joined([part[1] for part in parts], "label maps")
        if padded:
            whole = [torch.ones_like(part[0][:, 0], dtype=torch.bool) if part[2] is None else part[2] for part in parts]
            batch["valid"] = _joined(whole, "pixel_mask")
        return batch


def _joined(parts: list[Any], what: str) -> Tensor:
    if len({tuple(part.shape[1:]) for part in parts}) > 1:
        sizes = " and ".join(str(tuple(part.shape[1:])) for part in parts)
        raise RequestError(f"the {what} of forget_images and retain are of shape {sizes}; give both the same transform")
    return torch.cat([part.to(parts[0].dtype) for part in parts])
