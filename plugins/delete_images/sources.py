"""Folders of images and .npz files: labels and names first, pixels when it is known which are wanted."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from delete_tasks.errors import RequestError, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
SPLITS = ("train", "val", "test")

logger = logging.getLogger("delete_images")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (H, W, 3) RGB, turned upright as its EXIF data say.

    Raises:
        OSError (or another error of Pillow's): It is no whole image.
    """
    image_module = require("PIL.Image", "images")
    operations = require("PIL.ImageOps", "images")
    with image_module.open(path) as file:
        return np.array(operations.exif_transpose(file).convert("RGB"))


def _images_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


class FolderSource:
    """A folder with one folder of images for each class.

    Args:
        root: It, or a folder with ``train/`` and ``test/`` that are such folders.
        split: Which of those, if they are there.
        explicit: The user named the split, so it must be there.
        label_given: The user gives one label for all; then images may also lie in ``root`` itself.

    Attributes:
        labels: int64 (N,).
        class_names: Names of the class folders, sorted.
        names: Path of each image within the folder, with '/'.

    Raises:
        RequestError: No class folders or no images.
    """

    def __init__(self, root: Path, split: str, explicit: bool, label_given: bool) -> None:
        root = root.resolve()
        folders = self._folders(root)
        present = [folder.name for folder in folders if folder.name in SPLITS]
        if present and len(present) == len(folders):
            if split not in present:
                raise RequestError(
                    f"'{root}' has no split '{split}', only {', '.join(present)}; write ?split={present[0]}"
                )
            root = root / split
            folders = self._folders(root)
        elif explicit:
            raise RequestError(f"'{root}' has no folder for the split '{split}' beside its classes; leave out split=")
        loose = [path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        if label_given:
            paths = [(path, 0) for path in _images_in(root)]
            folders = [root]
        elif loose:
            raise RequestError(
                f"'{root}' holds {len(loose)} images outside of class folders; move them into one folder for each class, or "
                "say what they all are with ?label=NAME (or ?label=none)"
            )
        else:
            paths = [(path, number) for number, folder in enumerate(folders) for path in _images_in(folder)]
        if not paths:
            raise RequestError(f"'{root}' holds no images ({', '.join(SUFFIXES[:4])}, ...) in class folders")
        self.paths = [path for path, _ in paths]
        self.labels = np.asarray([number for _, number in paths], dtype=np.int64)
        self.class_names = tuple(folder.name for folder in folders)
        self.names = [path.relative_to(root).as_posix() for path in self.paths]

    @staticmethod
    def _folders(root: Path) -> list[Path]:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def read_one(self, index: int) -> np.ndarray:
        """Image ``index`` as uint8 (H, W, 3) RGB."""
        try:
            return read_image(self.paths[index])
        except OSError as error:
            raise RequestError(
                f"'{self.paths[index]}' could be read before, but not now ({error}); run again"
            ) from error

    def _problem(self, index: int) -> str | None:
        try:
            read_image(self.paths[index])
        except Exception as error:  # Pillow raises a dozen kinds for damaged files
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        return None

    def check(self, indices: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Decode every chosen image once, so that a damaged one is known before a run begins rather than amid it.

        Returns:
            Boolean (n,), true where the image can be read; and (name, reason) of the others.

        Raises:
            RequestError: None can be read.
        """
        with ThreadPoolExecutor(max_workers=4) as pool:
            problems = list(pool.map(self._problem, indices.tolist()))
        skipped = [(self.names[i], text) for i, text in zip(indices, problems, strict=True) if text is not None]
        if skipped:
            listed = "; ".join(f"{name} ({reason})" for name, reason in skipped[:5])
            more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            if len(skipped) == len(indices):
                raise RequestError(f"none of {len(indices)} images can be read: {listed}{more}; check the files")
            logger.warning(
                "skipped %d of %d images that cannot be read: %s%s", len(skipped), len(indices), listed, more
            )
        return np.asarray([text is None for text in problems]), skipped


class ArraySource:
    """An .npz file with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    ``y`` holds integers, or class names; an array ``classes`` of names may say what the integers mean.

    Args:
        path: The file.
        split: Which part, if it has parts.
        explicit: The user named the split, so it must be there.
        label_given: The user gives one label for all; then ``y`` may be missing.

    Attributes:
        labels: int64 (N,).
        class_names: The file's own names, or None where labels are bare integers.

    Raises:
        RequestError: Damaged, missing keys, or arrays of another shape or type.
    """

    def __init__(self, path: Path, split: str, explicit: bool, label_given: bool) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in self._wanted(path, list(file.files), split, explicit, label_given)}
                names = file["classes"] if "classes" in file.files else None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(
                f"'{path}' cannot be read as plain arrays: {error}; write it with numpy.savez"
            ) from error
        images, labels = (*arrays.values(), None)[:2]
        self.images = _check_images(images, path)
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(str(name) for name in names)
        self.labels = np.zeros(len(images), dtype=np.int64) if labels is None else self._read_labels(labels, path)

    @staticmethod
    def _wanted(path: Path, keys: list[str], split: str, explicit: bool, label_given: bool) -> list[str]:
        suffix = f"_{split}" if f"x_{split}" in keys else ""
        if f"x{suffix}" not in keys or (explicit and not suffix):
            raise RequestError(
                f"'{path}' has no x_{split}"
                + ("" if explicit else " and no x")
                + f"; it holds {', '.join(keys) or 'nothing'}"
            )
        if f"y{suffix}" in keys:
            return [f"x{suffix}", f"y{suffix}"]
        if not label_given:
            raise RequestError(f"'{path}' has x{suffix} but no y{suffix}; add labels, or say them with ?label=NAME")
        return [f"x{suffix}"]

    def _read_labels(self, labels: np.ndarray, path: Path) -> np.ndarray:
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as Keras keeps CIFAR's
        if labels.shape != (len(self.images),):
            raise RequestError(
                f"'{path}' has labels of shape {labels.shape} for {len(self.images)} images; expected one each"
            )
        if labels.dtype.kind == "U":
            own = self.class_names or tuple(sorted(set(labels.tolist())))
            self.class_names = own
            unknown = sorted(set(labels.tolist()) - set(own))
            if unknown:
                raise RequestError(f"'{path}' has labels that are not among its classes: {', '.join(unknown[:5])}")
            return np.asarray([own.index(name) for name in labels.tolist()], dtype=np.int64)
        if labels.dtype.kind not in "iu":
            raise RequestError(f"'{path}' has labels of type {labels.dtype}; expected integers or class names")
        if (
            self.class_names is not None
            and len(labels)
            and not 0 <= labels.min() <= labels.max() < len(self.class_names)
        ):
            raise RequestError(
                f"'{path}' has labels {labels.min()} to {labels.max()}, but {len(self.class_names)} class names"
            )
        return labels.astype(np.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images uint8 (n, H, W, 3) at ``indices``."""
        return self.images[indices]


def _check_images(images: np.ndarray, path: Path) -> np.ndarray:
    if images.dtype != np.uint8:
        raise RequestError(
            f"'{path}' has images of type {images.dtype}; expected uint8, 0 to 255 (for floats in [0, 1]: "
            "(x * 255).round().astype('uint8'))"
        )
    if images.ndim == 3:  # grey
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3:
        fix = "; transpose them with x.transpose(0, 2, 3, 1)" if images.ndim == 4 and images.shape[1] == 3 else ""
        raise RequestError(f"'{path}' has images of shape {images.shape}; expected (N, height, width, 3) RGB{fix}")
    return images
