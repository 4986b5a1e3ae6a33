"""The datasets of an unlearning run: named images for configs and commands, and whatever a caller of erase() brings.

An item is a list of samples, the forget set's first and then, where there is a retain set, one of that. A batch is a
dict of ``inputs (N, ...)``, ``labels (N,)`` int64 and ``retain (N,)`` bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from delete_tasks.errors import RequestError

from .data import ImageData, open_data, open_unlabelled
from .model_file import as_spec
from .spec import spec_to_json
from .transforms import AUGMENT, eval_transform


@FUNCTIONS.register_module()
def collate_images(items: Sequence[list[dict[str, Any]]]) -> dict[str, Tensor]:
    """Items of :class:`ImageDataset` to a batch."""
    return default_collate([sample for item in items for sample in item])


@DATASETS.register_module()
class ImageDataset(Dataset):
    """Images that a string names, as a given model takes them.

    Args:
        data: See :mod:`delete_images.data`, e.g. ``'cifar10:/data?class=deer'``.
        spec: The model's description, see :func:`delete_images.model_file.as_spec`; labels are indices into its classes.
        augment: 'strong' (:func:`delete_images.transforms.strong_transform`), 'plain' (crops and flips,
            :func:`delete_images.transforms.train_transform`) or 'none'.
        retain: Images of other classes; a random one joins each image of ``data``, under an empty mask.
        split: Of strings that name none.

    Attributes:
        labels: int64 (N,), -1 where there is none.
        class_names: The model's.
        names: One stable name for each image.
        spec_json: The model's description.
        retain: What joins the images of ``data``; public data where ``public`` is true.
    """

    def __init__(
        self, data: str, spec: Any, augment: str = "strong", retain: str | None = None, split: str = "train"
    ) -> None:
        self.spec = as_spec(spec)
        self.spec_json: dict[str, Any] | None = spec_to_json(self.spec)
        self.class_names = self.spec.classes
        self.data = open_data(data, split, self.class_names)
        self.retain: ImageData | None = None if retain is None else open_data(retain, split, self.class_names)
        self.public = False
        self.labels, self.names = self.data.labels.copy(), self.data.names
        if augment not in AUGMENT:
            raise RequestError(f"augment is {augment!r}; expected one of {', '.join(AUGMENT)}")
        self.transform = AUGMENT[augment](self.spec)

    def add_public(self, data: str) -> None:
        """Let a random image of ``data`` join each image, without its label.

        Raises:
            RequestError: There is a retain set; data that cannot be read.
        """
        if self.public:
            return  # opened by the checks before the run
        if self.retain is not None:
            raise RequestError(
                "a retain set and public data are both given, and one image joins each of the forget set; leave one of them out"
            )
        self.retain, self.public = open_unlabelled(data), True

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        image, _ = self.data[index]
        samples = [{"inputs": self.transform(image), "labels": int(self.labels[index]), "retain": False}]
        if self.retain is not None:
            # From PyTorch's generator, which the run seeds for each place in the stream.
            other, label = self.retain[int(torch.randint(len(self.retain), ()))]
            samples.append({"inputs": self.transform(other), "labels": label, "retain": True})
        return samples

    def without_augmentation(self) -> _Plain:
        """The same images, as the model is evaluated on them, without the retain set's."""
        return _Plain(self)


class _Plain(Dataset):
    def __init__(self, whole: ImageDataset) -> None:
        self.whole, self.transform = whole, eval_transform(whole.spec)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        return [{"inputs": self.transform(self.whole.data[index][0]), "labels": -1, "retain": False}]
