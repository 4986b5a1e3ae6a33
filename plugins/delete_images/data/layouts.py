"""Public data sets as downloaded: CIFAR-10 and CIFAR-100 (torchvision's files, or lossless mosaics), and Tiny ImageNet."""

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
ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet
_SIDE = 32


def is_mosaic_folder(root: Path) -> bool:
    """Return True if ``root`` holds ``train_labels.npy`` or ``test_labels.npy``, as beside ``train_00.webp``, ..."""
    return any((root / f"{split}_labels.npy").is_file() for split in ("train", "test"))


class CifarSource:
    """Reader of a split of 'cifar10' or 'cifar100': labels are read first, pixels once the wanted images are known. ``root`` is a
    folder of mosaics, or with one of the name ``kind``, or of torchvision's files (``download`` fetches missing ones); None is a
    cache folder, or ``DELETE_TASKS_DATA``. Damaged or missing data are refused. ``labels``, int64 (N,), index ``class_names``."""

    def __init__(self, kind: str, root: str | None, split: str, download: bool) -> None:
        self.class_names = CLASSES[kind]
        self.split = split
        self._mosaics: list[Path] = []
        self._images: np.ndarray | None = None
        folder = Path(root or os.environ.get(ROOT_VARIABLE) or "~/.cache/delete-tasks").expanduser()
        folder = folder / kind if is_mosaic_folder(folder / kind) else folder
        if is_mosaic_folder(folder):
            self._open_mosaics(kind, folder)
        else:
            self._open_torchvision(kind, folder, download)

    def _open_mosaics(self, kind: str, folder: Path) -> None:
        actual = "cifar100" if (folder / NAMES).is_file() else "cifar10"
        if kind != actual:
            raise RequestError(f"'{folder}' holds mosaics of {actual}, not of {kind}; write {actual}:{folder}")
        if kind == "cifar100":
            names = tuple((folder / NAMES).read_text(encoding="utf-8", errors="replace").split())
            if names != self.class_names:
                raise RequestError(
                    f"'{folder / NAMES}' holds {len(names)} names; expected CIFAR-100's, sorted. Copy the folder again"
                )
        path = folder / f"{self.split}_labels.npy"
        if not path.is_file():
            raise RequestError(f"'{folder}' has no {path.name}; it holds another split, or its files are incomplete")
        labels, most = read_npy(path), len(self.class_names) - 1
        integers = labels.ndim == 1 and labels.dtype.kind in "iu"
        if not integers or (len(labels) and not 0 <= labels.min() <= labels.max() <= most):
            raise RequestError(
                f"'{path}' has labels of shape {labels.shape} and type {labels.dtype}; expected one from 0 to {most} per image"
            )
        self.labels = labels.astype(np.int64)
        self._mosaics = sorted(folder.glob(f"{self.split}_*.webp"))
        if not self._mosaics or len(self.labels) % len(self._mosaics):
            raise RequestError(
                f"'{folder}' has {len(self._mosaics)} mosaics {self.split}_*.webp for {len(self.labels)} labels; expected the "
                "same number of images in each. Copy the folder again"
            )

    def _open_torchvision(self, kind: str, folder: Path, download: bool) -> None:
        dataset_class = getattr(require("torchvision.datasets", "images"), kind.upper())
        try:
            data = dataset_class(str(folder), train=self.split == "train", download=download)
        except (OSError, RuntimeError, ValueError) as error:
            fix = f"; no download is possible: give {kind}:FOLDER, or set {ROOT_VARIABLE}" if download else ""
            raise RequestError(f"the images of {kind} are missing in '{folder}' ({error}){fix}") from error
        self._images = data.data
        self.labels = np.asarray(data.targets, dtype=np.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Read the images at ``indices``, uint8 (n, 32, 32, 3)."""
        if self._images is not None:
            return self._images if len(indices) == len(self._images) else self._images[indices]
        per_mosaic = len(self.labels) // len(self._mosaics)
        images = np.empty((len(indices), _SIDE, _SIDE, 3), dtype=np.uint8)
        for number in np.unique(indices // per_mosaic):
            path = self._mosaics[number]
            mosaic = read_image(path)
            rows, columns = mosaic.shape[0] // _SIDE, mosaic.shape[1] // _SIDE
            if rows * columns != per_mosaic:
                raise RequestError(f"'{path}' holds {rows} x {columns} images, expected {per_mosaic}; copy it again")
            tiles = mosaic.reshape(rows, _SIDE, columns, _SIDE, 3).swapaxes(1, 2).reshape(-1, _SIDE, _SIDE, 3)
            inside = indices // per_mosaic == number
            images[inside] = tiles[indices[inside] % per_mosaic]
        return images


class TinyImageNetSource(FolderSource):
    """Reader of a split of Tiny ImageNet: train/CLASS/images/*.JPEG, or val/images/ with a text file of their classes. 'val' and
    'test' both mean the validation images: test images have no labels. Class names are the sorted folders of ``train/`` (WordNet
    ids). Refuse an image without a line in val_annotations.txt, a class without a folder, and no images."""

    def __init__(self, root: Path, split: str) -> None:
        root = root.resolve()
        self.class_names = tuple(folder.name for folder in self._folders(root / "train"))
        number = {name: i for i, name in enumerate(self.class_names)}
        if split == "train":
            pairs = [(path, number[name]) for name in self.class_names for path in images_in(root / "train" / name)]
        else:
            # A line holds the name of the file, the class, and a box, separated by tabs.
            lines = (root / "val" / ANNOTATIONS).read_text(encoding="utf-8", errors="replace").splitlines()
            class_of = {fields[0]: fields[1] for fields in (line.split("\t") for line in lines) if len(fields) > 1}
            pairs = []
            for path in images_in(root / "val" / "images"):
                name = class_of.get(path.name)
                if name not in number:
                    problem = "has no line" if name is None else f"is '{name}', a class without a folder in train/,"
                    raise RequestError(f"'{path}' {problem} in {ANNOTATIONS}; unpack Tiny ImageNet again")
                pairs.append((path, number[name]))
        if not pairs:
            raise RequestError(f"'{root}' holds no images of the split '{split}'; unpack Tiny ImageNet again")
        self._take(pairs, root)
