"""Datasets of uint8 RGB images with labels, from folders, .npz files and CIFAR.

A data set is named by one string::

    KIND_OR_PATH[?KEY=VALUE[&KEY=VALUE...]]

    cifar10                       torchvision's, downloaded if missing       cifar10:/data   files or mosaics in a folder
    cifar100[:ROOT]               the same for CIFAR-100
    photos/                       a folder with one folder of images for each class (or train/ and test/ with such folders)
    tiny-imagenet-200/            Tiny ImageNet as unpacked; its test split is the labelled validation images
    arrays.npz                    x and y, or x_train, y_train, x_test, y_test; x uint8 (N, H, W, 3); y ints or names

    split=train|test              the part; also val, for folders
    class=deer,cat                only these classes; without=deer: all but these. By name as in the data, ignoring case,
                                  '_' and '-' if that is unambiguous; or by id in the model's order (else the data's): class=#2
    limit=1000                    number of images, evenly spread over the data's order; with seed=7: a random choice
    label=deer                    one class for all images, instead of the data's labels; label=none: no labels (-1)

Values may hold percent escapes (``%2C`` for a comma in a class name). The choice is made in the order class, without,
limit, and is the same on every machine.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.copies import MOST, SIDE, Copies, find_alike, leave_out, thumbnail
from delete_tasks.request.classes import NameIndex

from ..models.class_names import CLASSES as CIFAR_CLASSES
from .layouts import ANNOTATIONS, CifarSource, TinyImageNetSource
from .sources import ArraySource, FolderSource, pixels_sha256
from .strings import DataSpec, choose_indices, parse_spec

NO_LABEL = -1
FORGET_SET = "the forget set"
MOST_CLASSES = 1_000_000  # of integer labels without names: each number up to the highest becomes a name


class ImageData(Dataset[tuple[np.ndarray, int]]):
    """Dataset of images with labels; item i is (uint8 (H, W, 3) RGB array, int).

    Attributes:
        labels: int64 (N,), indices into ``class_names``; -1 for no label.
        class_names: The model's class names if they were given, else the data's.
        names: Stable name of each sample, e.g. 'train/00017' or 'deer/a.jpg', for digests and reports.
        skipped: (name, reason) of images that could not be read and were left out.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        labels: np.ndarray,
        class_names: Sequence[str],
        names: Sequence[str],
        skipped: Sequence[tuple[str, str]] = (),
        rows: np.ndarray | None = None,
        source: FolderSource | None = None,
    ) -> None:
        self._read = read
        self._source = source  # has digests and thumbnails already
        self._rows = np.arange(len(labels)) if rows is None else rows
        self.labels = np.asarray(labels, dtype=np.int64)
        self.class_names = tuple(class_names)
        self.names = list(names)
        self.skipped = list(skipped)
        if not len(self.labels) == len(self.names) == len(self._rows):
            raise RequestError(
                f"a data set needs one label and one name for each image, got {len(self._rows)} images, {len(self.labels)} "
                f"labels, {len(self.names)} names"
            )

    @classmethod
    def from_arrays(
        cls, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], names: Sequence[str] | None = None
    ) -> "ImageData":
        """Make a dataset of uint8 images (N, H, W, 3) in memory; names default to '00000', '00001', ..."""
        named = names if names is not None else [f"{index:05d}" for index in range(len(images))]
        return cls(images.__getitem__, labels, class_names, named, rows=np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._read(int(self._rows[index])), int(self.labels[index])

    @cached_property  # several checks read the digests, and photos are decoded for them
    def digests(self) -> list[str]:
        """SHA-256 of each image's size and pixels, as hex."""
        if self._source is not None:
            return [self._source.digests[int(row)] for row in self._rows]
        return [pixels_sha256(self[index][0]) for index in range(len(self))]

    @cached_property
    def thumbnails(self) -> np.ndarray:
        """Thumbnails of the images, uint8 ``(N, SIDE, SIDE)``."""
        if self._source is not None:
            made = [self._source.thumbnails[int(row)] for row in self._rows]
        else:
            made = [thumbnail(self[index][0]) for index in range(len(self))]
        return np.array(made, np.uint8).reshape(-1, SIDE, SIDE)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageData":
        """Select the samples at ``indices`` (or of a boolean mask), in that order, without a copy of the images."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        names = [self.names[index] for index in chosen]
        labels, rows = self.labels[chosen], self._rows[chosen]
        return ImageData(self._read, labels, self.class_names, names, self.skipped, rows, self._source)

    def mapped(self, change: Callable[[np.ndarray], Any]) -> "ImageData":
        """Return the samples with each image changed when it is read, e.g. to the float32 ``(3, H', W')`` of a transform."""
        return ImageData(lambda index: change(self[index][0]), self.labels, self.class_names, self.names)


def open_data(
    spec: str, split: str = "train", classes: Sequence[str] | None = None, download: bool = True
) -> ImageData:
    """Open the data set that a string names, e.g. ``'cifar10:/data?split=test&class=deer&limit=500'``; see the module's docstring
    for the grammar. Unreadable images are logged and listed in ``skipped``.

    ``split`` is that of a string without ``split=``. With the model's class names ``classes``, labels become indices into them.
    Missing CIFAR is fetched if ``download``. Raise RequestError for a wrong string, no such data, classes of other names, or no
    image that is chosen or readable.
    """
    return _open(parse_spec(spec, split), classes, download)


def open_unlabelled(spec: str) -> ImageData:
    """Open the training images that a string names, as :func:`open_data`, but without labels; class folders are not needed."""
    request = parse_spec(spec, "train")
    if not (request.classes or request.without or request.label):
        request = replace(request, label="none")
    data = _open(request, None)
    data.labels[:] = NO_LABEL
    return data


def _open(request: DataSpec, classes: Sequence[str] | None, download: bool = True) -> ImageData:
    source, model_classes = _open_source(request, download), None if classes is None else tuple(classes)
    data_classes = source.class_names or _numbered(request, source.labels, model_classes)
    names = model_classes or data_classes
    labels = source.labels
    if data_classes != names:
        # To indices of the model's classes; -2 for a class that the model lacks. A label of -1 picks the last entry.
        labels = np.asarray([*NameIndex(names).match(data_classes), NO_LABEL], dtype=np.int64)[labels]
    indices = choose_indices(request, labels, source.labels, data_classes, names)
    labels = labels[indices]
    if request.label is not None:
        names = (request.label,) if classes is None and request.label != "none" else names
        find = NameIndex(names).find
        label = NO_LABEL if request.label == "none" else find(request.label, f"'{request.text}': label")
        labels = np.full(len(indices), label, dtype=np.int64)
    if isinstance(source, FolderSource):
        readable, skipped = source.check(indices)
        rows = indices[readable]
        named = [source.names[index] for index in rows]
        return ImageData(source.read_one, labels[readable], names, named, skipped, rows, source)
    named = [f"{request.split}/{index:05d}" for index in indices]
    return ImageData.from_arrays(source.read(indices), labels, names, named)


def _open_source(request: DataSpec, download: bool) -> CifarSource | ArraySource | FolderSource:
    if request.kind in CIFAR_CLASSES:
        if request.split not in ("train", "test"):
            raise RequestError(f"'{request.text}': CIFAR has no split '{request.split}'; choose train or test")
        return CifarSource(request.kind, request.path, request.split, download)
    request.check_place()
    path, label_given = Path(os.path.expanduser(request.path or "")), request.label is not None
    if path.is_dir():
        if (path / "val" / ANNOTATIONS).is_file() and (path / "train").is_dir() and not label_given:
            return TinyImageNetSource(path, request.split)
        return FolderSource(path, request.split, request.split_given, label_given)
    return ArraySource(path, request.split, request.split_given, label_given)


def _numbered(request: DataSpec, labels: np.ndarray, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """Name the classes of integer labels: the model's names, or the integers themselves."""
    highest = int(labels.max(initial=-1))
    most = MOST_CLASSES if classes is None else len(classes)
    if request.label is None and (labels.min(initial=0) < 0 or highest >= most):
        raise RequestError(
            f"'{request.text}' has labels {labels.min()} to {highest}, but there are {most} classes"
            f"{' at most' if classes is None else ''}; labels must be 0 to {most - 1}"
        )
    return classes or tuple(map(str, range(min(highest + 1, MOST_CLASSES))))


def find_copies(
    data: ImageData,
    among: str,
    used: Mapping[str, ImageData],
    fix: str = "give test images that nothing else reads, e.g. ?split=test",
    like: str = FORGET_SET,
    most: float = MOST,
) -> tuple[np.ndarray, list[Copies]]:
    """Find the images to keep, bool ``(N,)``: those that are not, pixel for pixel, in the data ``used``. Report the others, and
    the images that look like one of the data ``like``. See :func:`delete_tasks.evaluation.copies.leave_out`."""
    digests = {of: other.digests for of, other in used.items()}
    kept, copies = leave_out(among, data.names, data.digests, digests, fix, most)
    if like in used:
        names = [data.names[index] for index in np.flatnonzero(kept)]
        copies += find_alike(among, names, data.thumbnails[kept], like, used[like].thumbnails)
    return kept, copies
