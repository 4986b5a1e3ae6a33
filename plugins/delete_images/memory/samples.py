"""Samples passed to erase(), as a Dataset, DataLoader or tensor of images, and the dataset of a run over them."""

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
from ..data.transforms import MIXED, mix, viewed

IMAGE_KEYS = ("image", "images", "inputs", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")


@dataclass
class Samples:
    """Samples read by number, and their collation."""

    argument: str  # name of the argument of erase() that holds them
    items: Any  # the caller's dataset, or a list of its samples
    indices: Sequence[int]  # of the samples that take part
    collate: Callable[[list[Any]], Any]  # the caller's
    class_of: Tensor | None = None  # the model's class of each of the data's labels, int64; None if they are the same

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def public(self) -> bool:
        """Whether these are public data, whose labels are not read."""
        return self.argument == "public"

    @property
    def names(self) -> list[str]:
        """Stable names of the samples: their indices in the caller's data."""
        return [f"{index:06d}" for index in self.indices]

    def __getitem__(self, number: int) -> Any:
        return self.items[self.indices[number]]

    def select(self, mask: Tensor) -> None:
        """Remove, in place, the samples for which ``mask``, booleans ``(len(self),)``, is False."""
        self.indices = [self.indices[number] for number in mask.nonzero().flatten().tolist()]

    def collated(self, items: list[Any]) -> Any:
        """Collate items with the caller's function; raise :class:`RequestError` if that fails."""
        try:
            return self.collate(items)
        except (TypeError, RuntimeError) as error:
            raise RequestError(
                f"{self.argument}: samples of type {_kind(items[0])} cannot be put into a batch "
                f"({str(error).splitlines()[0]}). Give tensors of one shape (a transform that ends in a tensor), or a DataLoader "
                "with a collate_fn"
            ) from error

    def batch(self, items: list[Any]) -> tuple[Any, ...]:
        """Collate images ``(N, ...)`` and int64 labels ``(N,)``, -1 if missing; raise RequestError for other images or labels."""
        images, labels = images_and_labels(self.collated(items), self.argument)
        if labels is None:
            return images, torch.full((len(images),), NO_LABEL, dtype=torch.int64)
        labels = torch.as_tensor(labels)
        if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise RequestError(
                f"{self.argument}: labels of shape {tuple(labels.shape)} and type {labels.dtype} for {len(images)} images; "
                "expected one integer class per image, or no labels"
            )
        return images, self.as_classes(labels.long())

    def as_classes(self, labels: Tensor) -> Tensor:
        """Convert the data's labels, int64, to classes of the model; negative labels do not change."""
        if self.class_of is None:
            return labels
        return torch.where(labels >= 0, self.class_of[labels.clamp(min=0)], labels)

    def read_labels_by_name(self, class_names: Sequence[str]) -> None:
        """Match labels by name if the data name their classes and the model has all: a folder's only class has label 0."""
        names = named_classes(self.items)
        if names is not None and set(names) <= set(class_names):
            self.class_of = torch.tensor([list(class_names).index(name) for name in names])

    def items_of(self, numbers: Sequence[int], seed: int) -> list[Any]:
        """Read the samples ``numbers``; the randomness of each follows from ``seed`` and its number."""
        items = []
        for number in numbers:
            seed_all(seed, READ_STREAM, int(number))
            items.append(self[int(number)])
        return items

    def batches(self, numbers: Sequence[int], size: int, seed: int) -> Iterator[tuple[Any, ...]]:
        """Read batches of the samples ``numbers``, see :meth:`items_of` and :meth:`batch`."""
        shape: torch.Size | None = None
        for begin in range(0, len(numbers), size):
            batch = self.batch(self.items_of(numbers[begin : begin + size], seed))
            before, shape = shape, batch[0].shape[1:]
            if self.collate is default_collate and before not in (None, shape):
                sizes = f"{tuple(before or ())} and {tuple(shape)}"
                raise RequestError(f"{self.argument} has samples of shape {sizes}; give tensors of one shape, resized")
            yield batch


def _kind(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__


def images_and_labels(batch: Any, argument: str, label_keys: Sequence[str] = LABEL_KEYS) -> tuple[Tensor, Any]:
    """Return a collated batch's images and unconverted labels, None if missing, by key of a dict; refuse one without images."""
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Tensor):
        return batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(batch, Mapping):
        image = next((key for key in IMAGE_KEYS if isinstance(batch.get(key), Tensor)), None)
        label = next((key for key in label_keys if batch.get(key) is not None), None)
        if image is not None:
            return batch[image], None if label is None else batch[label]
    kind = f"a dict with the keys {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else _kind(batch)
    raise RequestError(
        f"{argument}: a batch is {kind}; expected (images, labels) or images alone, as tensors, or a dict with "
        f"{' or '.join(repr(key) for key in IMAGE_KEYS[:3])}. Give a DataLoader with a collate_fn that makes one"
    )


def read_samples(data: Any, argument: str) -> Samples:
    """Read a Dataset, a DataLoader (with its collate_fn and the indices of a subset sampler), or a tensor or list of samples.
    Iterable data are read once and kept in memory. Raise :class:`RequestError` for another type, whole batches, or no sample."""
    collate: Callable[[list[Any]], Any] = default_collate
    indices: Sequence[int] | None = None
    if isinstance(data, DataLoader):
        if data.batch_size is None and data.batch_sampler is None:
            raise RequestError(
                f"{argument} is a DataLoader with batch_size=None, i.e. of whole batches; give samples and a batch_size"
            )
        collate = data.collate_fn
        if not isinstance(data.dataset, IterableDataset):
            indices = _drawn_indices(data)
        data = data.dataset
    if isinstance(data, IterableDataset):
        data = list(data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(data, (str, bytes, Mapping)):
        raise RequestError(f"{argument} is a {type(data).__name__}; expected a Dataset, DataLoader or tensor of images")
    samples = Samples(argument, data, range(len(data)) if indices is None else indices, collate)
    if not len(samples):
        raise RequestError(f"{argument} is empty; give at least one image")
    return samples


def _drawn_indices(loader: DataLoader) -> Sequence[int] | None:
    """Return the indices that a loader's sampler draws, or None for its whole dataset."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, (SequentialSampler, RandomSampler)):
        return None
    drawn = sampler if sampler is not None else (index for batch in loader.batch_sampler or () for index in batch)
    return sorted({int(index) for index in drawn})


def named_classes(data: Any) -> Sequence[str] | None:
    """Return the class names of a dataset or of one it wraps: its ``class_names`` or ``classes``."""
    for _ in range(8):
        for attribute in ("class_names", "classes"):
            names = getattr(data, attribute, None)
            if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
        data = getattr(data, "dataset", None) or getattr(data, "data", None)
        if data is None:
            return None
    return None


def leave_out_others(samples: Samples, labels: Tensor, ids: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Remove samples with ``labels``, int64 ``(len(samples),)``, not in ``ids``; count them by class. Refuse to leave none."""
    matches = torch.isin(labels, torch.tensor([*ids, NO_LABEL]))
    left_out = {
        names[label] if 0 <= label < len(names) else f"label {label}": count
        for label, count in Counter(labels[~matches].tolist()).most_common()
    }
    if not matches.any():
        raise RequestError(
            f"none of the {len(samples)} images in {samples.argument} is labelled {' or '.join(names[i] for i in ids)} "
            f"({in_words(left_out)}); check classes and class_names, or give images without labels"
        )
    samples.select(matches)
    return left_out


def in_words(counts: Mapping[str, int]) -> str:
    """Format up to five counts, as in 'cat 12, dog 3'."""
    return list_names([f"{name} {count}" for name, count in counts.items()], 5)


def joined(parts: list[Any], kind: str, retain: Samples) -> Tensor:
    """Join tensors of the forget set and of ``retain``; raise :class:`RequestError` with their ``kind`` if shapes differ."""
    if len({tuple(part.shape[1:]) for part in parts}) > 1:
        first, second = (tuple(part.shape[1:]) for part in parts)
        raise RequestError(
            f"{retain.argument} has {kind} of shape {second} and forget_images of {first}; give both the same transform"
        )
    return torch.cat([part.to(parts[0].dtype) for part in parts])


class UserData(ImageForgetData, Dataset):
    """Dataset of a run over a caller's samples; see :mod:`delete_images.data.datasets` for items and batches. ``labels`` are
    those of ``forget``, int64 ``(N,)``; a missing one becomes the forgotten class, if there is only one. A random sample of
    ``retain``, retain set or public data, joins each of ``forget``. ``views`` makes a random view of a sample's image tensor."""

    spec = None

    def __init__(
        self,
        forget: Samples,
        labels: Tensor,
        class_names: Sequence[str],
        ids: Sequence[int],
        retain: Samples | None,
        views: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.public = retain is not None and retain.public
        self.forget, self.retain, self.ids, self.views = forget, retain, list(ids), views
        self.class_names = tuple(class_names)
        self.labels = self._complete(labels).numpy().astype(np.int64)
        self.names = forget.names

    def __getitem__(self, number: int) -> tuple[Any, Any, int, Any]:
        other = None if self.retain is None else self.retain[int(torch.randint(len(self.retain), ()))]
        mixes = getattr(self.views, "mixes", False) and float(torch.rand(())) < MIXED
        partner = self.forget[int(torch.randint(len(self.forget), ()))] if mixes else None
        return self.forget[number], other, int(torch.randint(2**31 - 1, ())), partner

    def collate(self, items: list[tuple[Any, ...]]) -> dict[str, Tensor]:
        """Collate a batch: the forget set's samples, then those of the retain set."""
        images, labels = self.forget.batch([item[0] for item in items])
        labels, count = self._complete(labels), len(images)
        if self.retain is not None:
            others, other_labels = self.retain.batch([item[1] for item in items])
            if self.public:
                other_labels = torch.full_like(other_labels, NO_LABEL)
            images, labels = joined([images, others], "images", self.retain), torch.cat([labels, other_labels])
            forgotten = sorted({self.class_names[label] for label in other_labels.tolist() if label in self.ids})
            if forgotten:
                raise RequestError(f"retain has images of {', '.join(forgotten)}, to be forgotten; leave them out")
        return {"inputs": self.views_of(images, items), "labels": labels, "retain": torch.arange(len(images)) >= count}

    def views_of(self, images: Tensor, items: list[tuple[Any, ...]]) -> Tensor:
        """Make a view of each image of a batch, with the seeds of its items, and mix those that have a partner with its view."""
        if self.views is None:
            return images
        seeds = [item[2] for item in items]
        views = viewed(images, self.views, [*seeds, *(seed + 1 for seed in seeds)][: len(images)])
        for number, (seed, partner) in enumerate((item[2], item[3]) for item in items):
            if partner is not None:
                other = viewed(self.forget.batch([partner])[0], self.views, [seed + 2])[0]
                views[number] = mix(views[number], other)  # its randomness continues that of the partner's view
        return views

    def _complete(self, labels: Tensor) -> Tensor:
        return torch.where(labels == NO_LABEL, self.ids[0], labels) if len(self.ids) == 1 else labels

    def __deepcopy__(self, memo: dict[int, Any]) -> "UserData":
        return self  # the caller's samples need not be in memory twice, nor their collate_fn be copyable
