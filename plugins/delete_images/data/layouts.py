"""Public data sets as they are downloaded.

CIFAR-10 and CIFAR-100 are torchvision's files, or a folder of lossless mosaics. Tiny ImageNet is train/CLASS/images/*.JPEG, and
val/images/ with a text file that says what they show.
"""

import os
from pathlib import Path

import numpy as np

from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.images import read_image

from ..models.class_names import CLASSES
from .archives import read_npy
from .sources import FolderSource, images_in

NAMES = "classes.txt"  # of a folder of mosaics of CIFAR-100
ROOT_VARIABLE = "DELETE_TASKS_DATA"
_SIDE = 32
ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet


def default_root() -> Path:
    """Return the folder of downloads: ``DELETE_TASKS_DATA``, or a cache folder in the user's home."""
    return Path(os.environ.get(ROOT_VARIABLE) or Path.home() / ".cache" / "delete-tasks")


def is_mosaic_folder(root: Path) -> bool:
    """Return True if ``root`` holds ``train_labels.npy`` or ``test_labels.npy`` beside ``train_00.webp``, ..."""
    return any((root / f"{split}_labels.npy").is_file() for split in ("train", "test"))


class CifarSource:
    """One split of CIFAR, labels first: pixels are read when it is known which of them are wanted.

    Args:
        kind: 'cifar10' or 'cifar100'.
        root: A folder of mosaics, or the place of torchvision's files (downloaded there if missing). None: see
            :func:`default_root`.
        split: 'train' or 'test'.

    Attributes:
        labels: int64 (N,).
        class_names: In order of the labels.

    Raises:
        RequestError: The data are neither there nor to be had, or damaged.
    """

    def __init__(self, kind: str, root: str | None, split: str) -> None:
        self.class_names = CLASSES[kind]
        self.split = split
        self._mosaics: list[Path] = []
        self._images: np.ndarray | None = None
        folder = Path(root).expanduser() if root else default_root()
        if is_mosaic_folder(folder):
            self._open_mosaics(kind, folder)
        else:
            self._open_torchvision(kind, folder)

    def _open_mosaics(self, kind: str, folder: Path) -> None:
        own = "cifar100" if (folder / NAMES).is_file() else "cifar10"  # a folder of CIFAR-10 needs none
        if kind != own:
            raise RequestError(f"'{folder}' holds mosaics of {own}, but {kind} was asked for; write {own}:{folder}")
        if kind == "cifar100":
            names = tuple((folder / NAMES).read_text(encoding="utf-8", errors="replace").split())
            if names != self.class_names:
                raise RequestError(
                    f"'{folder / NAMES}' holds {len(names)} names, which are not CIFAR-100's 100 in alphabetical order; copy "
                    "the folder again"
                )
        path = folder / f"{self.split}_labels.npy"
        if not path.is_file():
            raise RequestError(f"'{folder}' has no {path.name}; it holds another split, or its files are incomplete")
        labels = read_npy(path)
        whole = labels.ndim == 1 and labels.dtype.kind in "iu"
        most = len(self.class_names) - 1
        if not whole or (len(labels) and not 0 <= labels.min() <= labels.max() <= most):
            raise RequestError(
                f"'{path}' has labels of shape {labels.shape} and type {labels.dtype}; expected integers from 0 to {most}, one "
                "an image"
            )
        self.labels = labels.astype(np.int64)
        self._mosaics = sorted(folder.glob(f"{self.split}_*.webp"))
        if not self._mosaics or len(self.labels) % len(self._mosaics):
            raise RequestError(
                f"'{folder}' has {len(self._mosaics)} mosaics {self.split}_*.webp for {len(self.labels)} labels, which is no "
                "whole number of images each; copy the folder again"
            )

    def _open_torchvision(self, kind: str, folder: Path) -> None:
        datasets = require("torchvision.datasets", "images")
        dataset_class = datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100
        try:
            data = dataset_class(str(folder), train=self.split == "train", download=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise RequestError(
                f"{kind} is not in '{folder}' and cannot be downloaded ({error}); give the folder that holds it: "
                f"{kind}:FOLDER, or set {ROOT_VARIABLE}"
            ) from error
        self._images = data.data
        self.labels = np.asarray(data.targets, dtype=np.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images uint8 (n, 32, 32, 3) at ``indices``."""
        if self._images is not None:
            return self._images if len(indices) == len(self._images) else self._images[indices]
        each = len(self.labels) // len(self._mosaics)
        out = np.empty((len(indices), _SIDE, _SIDE, 3), dtype=np.uint8)
        for number in np.unique(indices // each):
            path = self._mosaics[number]
            mosaic = read_image(path)
            rows, columns = mosaic.shape[0] // _SIDE, mosaic.shape[1] // _SIDE
            if rows * columns != each:
                raise RequestError(
                    f"'{path}' holds {rows} x {columns} images of 32 pixels, expected {each}; copy it again"
                )
            tiles = mosaic.reshape(rows, _SIDE, columns, _SIDE, 3).swapaxes(1, 2).reshape(each, _SIDE, _SIDE, 3)
            here = indices // each == number
            out[here] = tiles[indices[here] % each]
        return out


def is_tiny_imagenet(root: Path) -> bool:
    """Return True if a folder has the layout of the download."""
    return (root / "val" / ANNOTATIONS).is_file() and (root / "train").is_dir()


class TinyImageNetSource(FolderSource):
    """A split of Tiny ImageNet; see :class:`delete_images.data.sources.FolderSource`.

    Args:
        root: The folder that holds ``train/`` and ``val/``.
        split: 'train'; or 'val' or 'test', which are both the validation images: the test images have no labels.

    Attributes:
        class_names: The folders of ``train/`` (WordNet ids), sorted, for both splits.

    Raises:
        RequestError: An image without a line in val_annotations.txt, a class that ``train/`` has not, or no images.
    """

    def __init__(self, root: Path, split: str) -> None:
        root = root.resolve()
        self.class_names = tuple(folder.name for folder in self._folders(root / "train"))
        number = {name: i for i, name in enumerate(self.class_names)}
        if split == "train":
            pairs = [(path, number[name]) for name in self.class_names for path in images_in(root / "train" / name)]
        else:
            known = _read_annotations(root / "val" / ANNOTATIONS)
            pairs = []
            for path in images_in(root / "val" / "images"):
                shown = known.get(path.name)
                if shown not in number:
                    told = "has no line" if shown is None else f"is '{shown}', of which train/ has no folder,"
                    raise RequestError(f"'{path}' {told} in {ANNOTATIONS}; unpack Tiny ImageNet again")
                pairs.append((path, number[shown]))
        if not pairs:
            raise RequestError(f"'{root}' holds no images of the split '{split}'; unpack Tiny ImageNet again")
        self._take(pairs, root)


def _read_annotations(path: Path) -> dict[str, str]:
    """File name -> class. A line is the file's name, the class, and a box, with tabs between."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {fields[0]: fields[1] for fields in (line.split("\t") for line in lines) if len(fields) > 1}
