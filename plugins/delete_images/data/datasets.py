"""Datasets of unlearning runs on classifiers. An item is a list of samples: one of the forget set and, if there is a retain set,
one of that. A batch is a dict of ``inputs (N, ...)``, ``labels (N,)`` int64 and ``retain (N,)`` bool."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from delete_tasks.display.progress import track
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.forget_data import ForgetData

from ..models.classifier import predict_batch
from ..models.model_file import as_spec
from .opening import NO_LABEL, open_data, open_unlabelled
from .transforms import AUGMENT, MIXED, eval_transform, mix


@FUNCTIONS.register_module()
def collate_images(items: Sequence[list[dict[str, Any]]]) -> dict[str, Tensor]:
    """Collate items of :class:`ImageDataset` to a batch."""
    return default_collate([sample for item in items for sample in item])


class ImageForgetData(ForgetData):
    """Base of the datasets of classifiers' runs."""

    labels: np.ndarray  # int64 (N,), -1 for no label
    class_names: Sequence[str]  # of the model
    names: Sequence[str]  # stable, of each image
    spec: Any  # ModelSpec of the model; None if it has none
    retain: Any = None  # named images of the retain set, or of the public data if `public` is true
    public = False
    views: Any = None  # name of the views of the forget set's images, or a function; None for the images themselves

    def __len__(self) -> int:
        return len(self.labels)

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        # Images without labels belong to the forget set.
        return np.flatnonzero(np.isin(self.labels, [*ids, NO_LABEL])).tolist()

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        return [self.names[index] for index in indices]

    def fingerprint(self, select: str) -> list[str]:
        if select == "teacher":
            return list(self.names)
        return [f"{name} {label}" for name, label in zip(self.names, self.labels, strict=True)]

    def unlabelled(self, indices: Sequence[int]) -> int:
        return int((self.labels[list(indices)] == NO_LABEL).sum())

    def without_labels(self) -> None:
        self.labels = np.full(len(self.labels), NO_LABEL, np.int64)

    def retain_samples(self) -> list[str] | None:
        return None if self.retain is None or self.public else list(self.retain.names)

    def public_samples(self) -> list[str] | None:
        return list(self.retain.names) if self.public else None


@DATASETS.register_module()
class ImageDataset(ImageForgetData, Dataset):
    """Dataset of the images that a data string names, preprocessed for a model.

    Args:
        data: See :mod:`delete_images.data.opening`, e.g. ``'cifar10:/data?class=deer'``.
        spec: The model's description, see :func:`delete_images.models.model_file.as_spec`; labels are indices into its classes.
        augment: 'strong' (:func:`delete_images.data.transforms.strong_transform`, half of them mixed,
            :func:`delete_images.data.transforms.mix`), 'plain' (crops and flips,
            :func:`delete_images.data.transforms.train_transform`) or 'none'.
        retain: Images of other classes; a random one joins each image of ``data``, under an empty mask.
        split: Split of strings without ``split=``.
    """

    def __init__(
        self, data: str, spec: Any, augment: str = "strong", retain: str | None = None, split: str = "train"
    ) -> None:
        self.spec = as_spec(spec)
        self.class_names = self.spec.classes
        self.data = open_data(data, split, self.class_names)
        self.retain = None if retain is None else open_data(retain, split, self.class_names)
        self.labels, self.names = self.data.labels.copy(), self.data.names
        if augment not in AUGMENT:
            raise RequestError(f"augment is {augment!r}; expected one of {', '.join(AUGMENT)}")
        self.transform, self.views = AUGMENT[augment](self.spec), None if augment == "none" else augment

    def add_public(self, data: str) -> None:
        if self.public:
            return  # opened by the checks before the run
        if self.retain is not None:
            raise RequestError("a retain set and public data cannot be used together; leave one of them out")
        self.retain, self.public = open_unlabelled(data), True

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        image = self.transform(self.data[index][0])
        if self.views == "strong" and float(torch.rand(())) < MIXED:
            others = self.forget_indices or range(len(self))
            image = mix(image, self.transform(self.data[others[int(torch.randint(len(others), ()))]][0]))
        samples = [{"inputs": image, "labels": int(self.labels[index]), "retain": False}]
        if self.retain is not None:
            # By PyTorch's generator, which the run seeds for each place in the stream.
            image, label = self.retain[int(torch.randint(len(self.retain), ()))]
            samples.append({"inputs": self.transform(image), "labels": label, "retain": True})
        return samples

    def find_forget_set(self, ids: Sequence[int], teacher: Any, config: Any) -> list[int]:
        if teacher is None:
            return super().find_forget_set(ids, teacher, config)
        loader = DataLoader(self.data.mapped(eval_transform(self.spec)), batch_size=256)
        batches = track(loader, len(loader), "Original model: predicting")
        predicted = torch.cat([predict_batch(teacher, images).argmax(1).cpu() for images, _ in batches])
        return torch.isin(predicted, torch.tensor(list(ids))).nonzero().flatten().tolist()
