"""Samples passed to erase(), any Dataset, DataLoader or tensor of images, in the terms of an unlearning run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from delete_tasks.errors import RequestError, list_names
from delete_tasks.fileio.seeds import READ_STREAM, seed_all

from ..data.datasets import ImageForgetData
from ..data.opening import NO_LABEL
from ..data.views import viewed

PUBLIC = "public"  # what samples are called that are no retain set
IMAGE_KEYS = ("image", "images", "inputs", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")


@dataclass
class Samples:
    """Samples that can be read by number, and how several become a batch.

    Attributes:
        what: What they are called in messages.
        items: The caller's dataset, or a list of its samples.
        indices: Those that take part.
        collate: The caller's own.
        batch_size: The caller's, None where there is none.
        class_of: The model's class of each of the data's own labels, None where they are the same.
    """

    what: str
    items: Any
    indices: Sequence[int]
    collate: Callable[[list[Any]], Any]
    batch_size: int | None
    class_of: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> list[str]:
        """Stable names, by place in the caller's data."""
        return [f"{index:06d}" for index in self.indices]

    def __getitem__(self, number: int) -> Any:
        return self.items[self.indices[number]]

    def collated(self, items: list[Any]) -> Any:
        """Items as a batch, whatever the caller's collate_fn makes of them.

        Raises:
            RequestError: They cannot be put into one.
        """
        try:
            return self.collate(items)
        except (TypeError, RuntimeError) as error:
            raise RequestError(
                f"{self.what}: samples of type {_kind(items[0])} cannot be put into a batch ({str(error).splitlines()[0]}). "
                "Give tensors of one shape (a transform that ends in a tensor), or a DataLoader with a collate_fn"
            ) from error

    def batch(self, items: list[Any]) -> tuple[Any, ...]:
        """Images ``(N, ...)`` and labels ``(N,)`` int64, -1 where there are none.

        Raises:
            RequestError: No tensor of images, or labels that are not one integer an image.
        """
        images, labels = images_and_labels(self.collated(items), self.what)
        if labels is None:
            return images, torch.full((len(images),), NO_LABEL, dtype=torch.int64)
        labels = torch.as_tensor(labels)
        if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise RequestError(
                f"{self.what}: labels of shape {tuple(labels.shape)} and type {labels.dtype} for {len(images)} images; "
                "expected one integer class an image, or no labels"
            )
        return images, self.as_classes(labels.long())

    def as_classes(self, labels: Tensor) -> Tensor:
        """Convert the data's labels, int64, to classes of the model; negative ones stay."""
        if self.class_of is None:
            return labels
        return torch.where(labels >= 0, self.class_of[labels.clamp(min=0)], labels)

    def read_labels_by_name(self, class_names: Sequence[str]) -> None:
        """Match labels by name if the data name their classes, and the model knows each name.

        A folder that holds one class alone calls it 0, whatever its number in the model.
        """
        own = known_class_names(self.items)
        if own is not None and set(own) <= set(class_names):
            self.class_of = torch.tensor([list(class_names).index(name) for name in own])

    def items_of(self, numbers: Sequence[int], seed: int) -> list[Any]:
        """Read the samples ``numbers``; the randomness of each follows from ``seed`` and its number."""
        items = []
        for number in numbers:
            seed_all(seed, READ_STREAM, int(number))
            items.append(self[int(number)])
        return items

    def batches(self, numbers: Sequence[int], size: int, seed: int) -> Iterator[tuple[Any, ...]]:
        """Batches of the samples ``numbers``, see :meth:`items_of` and :meth:`batch`."""
        for begin in range(0, len(numbers), size):
            yield self.batch(self.items_of(numbers[begin : begin + size], seed))


def _kind(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__


def images_and_labels(batch: Any, what: str, label_keys: Sequence[str] = LABEL_KEYS) -> tuple[Tensor, Any]:
    """Find the images of a collated batch, and its labels as they are, or None; ``label_keys`` are those of a dict.

    Raises:
        RequestError: No tensor of images.
    """
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Tensor):
        return batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(batch, Mapping):
        image = next((key for key in IMAGE_KEYS if isinstance(batch.get(key), Tensor)), None)
        label = next((key for key in label_keys if batch.get(key) is not None), None)
        if image is not None:
            return batch[image], None if label is None else batch[label]
    found = f"a dict with the keys {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else _kind(batch)
    raise RequestError(
        f"{what}: a batch is {found}; expected (images, labels) or images alone, as tensors, or a dict with "
        f"{' or '.join(repr(key) for key in IMAGE_KEYS[:3])}. Give a DataLoader with a collate_fn that makes one"
    )


def read_samples(data: Any, what: str) -> Samples:
    """Read a Dataset, a DataLoader (with its collate_fn and a subset sampler's choice), or a tensor or list of samples.
    Iterable-style data are read once and kept in memory; ``what`` names the argument in messages.

    Raises:
        RequestError: Another type, whole batches instead of samples, or no sample at all.
    """
    collate: Callable[[list[Any]], Any] = default_collate
    batch_size = None
    indices: Sequence[int] | None = None
    if isinstance(data, DataLoader):
        if data.batch_size is None and data.batch_sampler is None:
            raise RequestError(
                f"{what} is a DataLoader with batch_size=None, whose dataset yields whole batches; give single samples and a "
                "batch_size"
            )
        collate, batch_size = data.collate_fn, data.batch_size
        if not isinstance(data.dataset, IterableDataset):
            indices = _chosen(data)
        data = data.dataset
    if isinstance(data, IterableDataset):
        data = list(data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(data, (str, bytes, Mapping)):
        raise RequestError(f"{what} is a {type(data).__name__}; expected a Dataset, a DataLoader or a tensor of images")
    samples = Samples(what, data, range(len(data)) if indices is None else indices, collate, batch_size)
    if not len(samples):
        raise RequestError(f"{what} is empty; give at least one image")
    return samples


def _chosen(loader: DataLoader) -> Sequence[int] | None:
    """Find the indices that a loader's sampler would draw, or None for all of its dataset."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, (SequentialSampler, RandomSampler)):
        return None
    drawn = sampler if sampler is not None else (index for batch in loader.batch_sampler or () for index in batch)
    return sorted({int(index) for index in drawn})


def known_class_names(data: Any) -> Sequence[str] | None:
    """Find the names that a dataset (or the one it wraps) carries as ``class_names`` or ``classes``."""
    for _ in range(8):
        for name in ("class_names", "classes"):
            found = getattr(data, name, None)
            if isinstance(found, (list, tuple)) and found and all(isinstance(part, str) for part in found):
                return tuple(found)
        data = getattr(data, "dataset", None) or getattr(data, "data", None)
        if data is None:
            return None
    return None


def of_classes(samples: Samples, labels: Tensor, ids: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Leave out, in place, the samples that are labelled with another class than ``ids``; what has no label stays.
    ``labels``, int64 ``(len(samples),)``, are those of all samples.

    Returns:
        How many were left out, by class, most first.

    Raises:
        RequestError: None is left; the message counts them by class.
    """
    stays = torch.isin(labels, torch.tensor([*ids, NO_LABEL]))
    others = Counter(labels[~stays].tolist())
    left_out = {
        names[label] if 0 <= label < len(names) else f"label {label}": count for label, count in others.most_common()
    }
    if not stays.any():
        raise RequestError(
            f"none of the {len(samples)} images in {samples.what} is labelled {' or '.join(names[i] for i in ids)} "
            f"({in_words(left_out)}); check classes and class_names, or give images without labels"
        )
    samples.indices = [samples.indices[number] for number in stays.nonzero().flatten().tolist()]
    return left_out


def in_words(counts: Mapping[str, int], most: int = 5) -> str:
    """'cat 12, dog 3'."""
    return list_names([f"{name} {count}" for name, count in counts.items()], most)


class UserData(ImageForgetData, Dataset):
    """The dataset of a run over a caller's samples; see :mod:`delete_images.data.datasets` for items and batches.

    Args:
        forget: All of it is the forget set.
        labels: int64 (N,) of the forget set, as read before.
        class_names: Of all logits.
        ids: The classes to forget; a missing label becomes the only one of them.
        retain: Samples of other classes, or public ones, whose labels are not read; a random one joins each of ``forget``.
        views: From one sample's image tensor to a random view of it, or None.
    """

    spec_json = None

    def __init__(
        self,
        forget: Samples,
        labels: Tensor,
        class_names: Sequence[str],
        ids: Sequence[int],
        retain: Samples | None,
        views: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.public = retain is not None and retain.what == PUBLIC
        self.forget, self.retain, self.ids, self.views = forget, retain, list(ids), views
        self.class_names = tuple(class_names)
        self.labels = labels.numpy().astype(np.int64)
        if len(self.ids) == 1:
            self.labels[self.labels == NO_LABEL] = self.ids[0]
        self.names = forget.names

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, number: int) -> tuple[Any, Any, int]:
        other = None if self.retain is None else self.retain[int(torch.randint(len(self.retain), ()))]
        return self.forget[number], other, int(torch.randint(2**31 - 1, ()))

    def collate(self, items: list[tuple[Any, Any, int]]) -> dict[str, Tensor]:
        """Collate a batch: the forget set's samples, then those of the retain set."""
        images, labels = self.forget.batch([item[0] for item in items])
        if len(self.ids) == 1:
            labels = torch.where(labels == NO_LABEL, self.ids[0], labels)
        retain = torch.zeros(len(images), dtype=torch.bool)
        if self.retain is not None:
            others, known = self.retain.batch([item[1] for item in items])
            known = torch.full_like(known, NO_LABEL) if self.public else known
            _check_retain(images, others, known, self.ids, self.class_names, self.retain.what)
            images, labels = torch.cat([images, others.to(images.dtype)]), torch.cat([labels, known])
            retain = torch.cat([retain, torch.ones(len(others), dtype=torch.bool)])
        if self.views is not None:
            seeds = [item[2] for item in items]
            images = viewed(images, self.views, [*seeds, *(seed + 1 for seed in seeds)][: len(images)])
        return {"inputs": images, "labels": labels, "retain": retain}

    def __deepcopy__(self, memo: dict[int, Any]) -> UserData:
        return self  # neither the caller's samples nor his collate_fn need be in memory twice


def _check_retain(
    images: Tensor, others: Tensor, labels: Tensor, ids: Sequence[int], names: Sequence[str], what: str
) -> None:
    if others.shape[1:] != images.shape[1:]:
        raise RequestError(
            f"{what} has samples of shape {tuple(others.shape[1:])} and forget_images of {tuple(images.shape[1:])}; give both "
            "the same transform"
        )
    shown = sorted({names[int(label)] for label in labels if int(label) in ids})
    if shown:
        raise RequestError(f"retain holds images labelled {', '.join(shown)}, which is to be forgotten; leave them out")
