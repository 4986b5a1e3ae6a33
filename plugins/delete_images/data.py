"""Images from folders, .npz files and CIFAR, as datasets of raw uint8 RGB arrays with labels.

A data set is named by one string::

    KIND_OR_PATH[?KEY=VALUE[&KEY=VALUE...]]

    cifar10                       torchvision's, downloaded if need be       cifar10:/data   files or mosaics in a folder
    cifar100[:ROOT]               the same for CIFAR-100
    photos/                       a folder with one folder of images for each class (or train/ and test/ with those)
    arrays.npz                    x and y, or x_train, y_train, x_test, y_test; x uint8 (N, H, W, 3); y ints or names

    split=train|test              which part; also val, for folders
    class=deer,cat                only these classes; without=deer: all but these
    limit=1000                    that many images, evenly spread over the data's order; with seed=7: a random choice
    label=deer                    all images have this class, whatever the data say; label=none: no labels (-1)

Values may hold percent escapes (``%2C`` for a comma in a class name). The choice is made in the order class, without,
limit, and is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from delete_tasks.errors import RequestError

from .cifar import CLASSES as CIFAR_CLASSES
from .cifar import CifarSource
from .selection import DataSpec, choose_indices, match_class_names, parse_spec
from .sources import ArraySource, FolderSource

NO_LABEL = -1


class ImageData(Dataset[tuple[np.ndarray, int]]):
    """Images with labels; item i is (uint8 (H, W, 3) RGB array, int).

    Attributes:
        labels: int64 (N,), indices into ``class_names``; -1 where there is no label.
        class_names: The model's class names if they were given, else the data's own.
        names: One stable name for each sample, e.g. 'train/00017' or 'deer/a.jpg', for digests and reports.
        skipped: (name, reason) of images that could not be read and are not among the samples.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        labels: np.ndarray,
        class_names: Sequence[str],
        names: Sequence[str],
        skipped: Sequence[tuple[str, str]] = (),
        rows: np.ndarray | None = None,
    ) -> None:
        self._read = read
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
    ) -> ImageData:
        """From uint8 images (N, H, W, 3) in memory; names default to '00000', '00001', ..."""
        named = names if names is not None else [f"{index:05d}" for index in range(len(images))]
        return cls(images.__getitem__, labels, class_names, named, rows=np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._read(int(self._rows[index])), int(self.labels[index])

    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageData:
        """The samples at ``indices`` (or where a boolean array is true), in that order; nothing is copied."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        names = [self.names[index] for index in chosen]
        return ImageData(self._read, self.labels[chosen], self.class_names, names, self.skipped, self._rows[chosen])


def open_data(spec: str, split: str = "train", classes: Sequence[str] | None = None) -> ImageData:
    """Open the data set that a string names; see the module's docstring for the grammar.

    Args:
        spec: E.g. ``'cifar10:/data?split=test&class=deer&limit=500'``.
        split: Used where the string has no ``split=``.
        classes: The model's class names. Labels become indices into them; data whose classes have other names are refused.

    Returns:
        The data set. Unreadable images are logged and kept in ``skipped``.

    Raises:
        RequestError: A wrong string, no such data, classes that are unknown, no image left or none readable.
    """
    request = parse_spec(spec, split)
    source = _open_source(request, classes)
    labels, class_names = _relabel(request, source.labels, source.class_names, classes)
    indices = choose_indices(request, labels, source.labels, source.class_names, class_names)
    labels = labels[indices]
    if isinstance(source, FolderSource):
        readable, skipped = source.check(indices)
        names = [source.names[index] for index in indices[readable]]
        return ImageData(source.read_one, labels[readable], class_names, names, skipped, indices[readable])
    names = [f"{request.split}/{index:05d}" for index in indices]
    return ImageData.from_arrays(source.read(indices), labels, class_names, names)


def _open_source(request: DataSpec, classes: Sequence[str] | None) -> CifarSource | ArraySource | FolderSource:
    if request.kind in CIFAR_CLASSES:
        if request.split not in ("train", "test"):
            raise RequestError(f"'{request.text}': CIFAR has no split '{request.split}'; choose train or test")
        return CifarSource(request.kind, request.path, request.split)
    path = Path(request.path or "").expanduser()
    if path.is_dir():
        return FolderSource(path, request.split, explicit=request.split_given, label_given=request.label is not None)
    if path.is_file() and path.suffix == ".npz":
        return ArraySource(path, request.split, explicit=request.split_given, label_given=request.label is not None)
    found = "a file that is no .npz" if path.is_file() else "nothing there"
    raise RequestError(
        f"no data at '{path}' ({found}); expected a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]"
    )


def _relabel(
    request: DataSpec, labels: np.ndarray, own_names: Sequence[str] | None, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as indices into the model's classes (or the data's own); -2 marks a class that the model lacks."""
    names = tuple(classes if classes is not None else own_names or ())
    if request.label is not None:
        if request.label == "none":
            return np.full(len(labels), NO_LABEL, dtype=np.int64), names
        names = names if classes is not None else (request.label,)
        (position,) = match_class_names([request.label], names, f"'{request.text}': label")
        return np.full(len(labels), position, dtype=np.int64), names
    if own_names is None:  # an array with bare integers
        highest = int(labels.max(initial=-1))
        names = names or tuple(str(number) for number in range(highest + 1))
        if labels.min(initial=0) < 0 or highest >= len(names):
            raise RequestError(
                f"'{request.text}' has labels {labels.min()} to {highest}, but there are {len(names)} classes; labels must "
                f"be 0 to {len(names) - 1}"
            )
        return labels, names
    if classes is None:
        return labels, names
    positions = np.asarray(match_class_names(own_names, names, None), dtype=np.int64)
    return positions[labels], names
