"""Folders of images and .npz files: labels and names first, pixels when it is known which are wanted."""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation.reader import TRIED
from delete_tasks.fileio.images import SUFFIXES, DamagedImageError, read_image, readable_name

from ..models.spec import check_class_names
from .archives import Archive, Header, check_memory, texts

__all__ = ["SPLITS", "SUFFIXES", "ArraySource", "FolderSource", "read_image"]

SPLITS = ("train", "val", "test")

logger = logging.getLogger("delete_images")


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of an image's size and pixels, as hex."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise RequestError(
            f"the folder '{folder}' cannot be read ({error.strerror}), and leaving it out would change the data; make it "
            "readable, or take it away"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder, or a link to one.

    Raises:
        RequestError: A link that leads nowhere or in a circle, where an image's name does not say that it is a file.
    """
    if entry.is_symlink() and Path(entry.path).suffix.lower() not in SUFFIXES:
        try:
            os.stat(entry.path)
        except OSError as error:
            raise RequestError(
                f"'{entry.path}' is a link that leads nowhere ({error.strerror}), and what it stood for would be missing; "
                "mend it, or take it away"
            ) from error
    return entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By its name; a link that leads nowhere counts, so that it is named among what cannot be read."""
    if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in SUFFIXES:
        return False
    return entry.is_file() or (entry.is_symlink() and not entry.is_dir())


def images_in(folder: Path) -> list[Path]:
    """Images in a folder and in those below it, links followed, sorted."""
    found, waiting, seen = [], [folder], set()
    while waiting:
        here = waiting.pop()
        entries = _entries(here)
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            continue  # by a link in a circle
        seen.add((status.st_dev, status.st_ino))
        waiting += [Path(entry.path) for entry in entries if _is_folder(entry)]
        found += [Path(entry.path) for entry in entries if _is_image(entry)]
    return sorted(found)


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
        digests: Of the images that were checked, by their numbers, see :func:`pixels_sha256`.

    Raises:
        RequestError: No class folders or no images; a folder that cannot be read, or whose name is no UTF-8.
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
        loose = [entry for entry in _entries(root) if _is_image(entry)]
        if label_given:
            paths = [(path, 0) for path in images_in(root)]
            folders = [root]
        elif loose:
            raise RequestError(
                f"'{root}' holds {len(loose)} images outside of class folders; move them into one folder for each class, or "
                "say what they all are with ?label=NAME (or ?label=none)"
            )
        else:
            paths = [(path, number) for number, folder in enumerate(folders) for path in images_in(folder)]
        if not paths:
            raise RequestError(f"'{root}' holds no images ({', '.join(SUFFIXES[:4])}, ...) in class folders")
        self.class_names = check_class_names([folder.name for folder in folders], f"'{root}'")
        self._take(paths, root)

    def _take(self, paths: Sequence[tuple[Path, int]], root: Path) -> None:
        """Take images, each with its label."""
        self.paths = [path for path, _ in paths]
        self.labels = np.asarray([label for _, label in paths], dtype=np.int64)
        self.names = [readable_name(path.relative_to(root).as_posix()) for path in self.paths]
        self.digests: dict[int, str] = {}
        self._first: dict[int, np.ndarray] = {}

    @staticmethod
    def _folders(root: Path) -> list[Path]:
        return sorted(
            Path(entry.path) for entry in _entries(root) if not entry.name.startswith(".") and _is_folder(entry)
        )

    def read_one(self, index: int) -> np.ndarray:
        """Image ``index`` as uint8 (H, W, 3) RGB."""
        if index in self._first:
            return self._first[index]
        try:
            return read_image(self.paths[index])
        except DamagedImageError as error:
            raise RequestError(
                f"'{self.paths[index]}' could be read before, but not now ({error.reason}); run again"
            ) from error

    def _problem(self, index: int) -> str | None:
        try:
            image = read_image(self.paths[index])
        except DamagedImageError as error:
            return error.reason
        self.digests[index] = pixels_sha256(image)
        if index in self._first:
            self._first[index] = image
        return None

    def check(self, indices: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Decode every chosen image once, so that a damaged one is known before a run begins rather than amid it.

        Returns:
            Boolean (n,), true where the image can be read; and (name, reason) of the others.

        Raises:
            RequestError: None can be read; or one is whole, but cannot be taken as it is (see :func:`read_image`).
        """
        # The first few are read again before a run begins, by each model that is tried on them.
        self._first = dict.fromkeys(indices[:TRIED].tolist(), np.empty(0))
        with ThreadPoolExecutor(max_workers=4) as pool:
            problems = list(pool.map(self._problem, indices.tolist()))
        skipped = [(self.names[i], text) for i, text in zip(indices, problems, strict=True) if text is not None]
        if skipped:
            listed = list_names([f"{name} ({reason})" for name, reason in skipped], 5, "; ", longest=None)
            if len(skipped) == len(indices):
                raise RequestError(f"none of {len(indices)} images can be read: {listed}; check the files")
            logger.warning("skipped %d of %d images that cannot be read: %s", len(skipped), len(indices), listed)
        return np.asarray([text is None for text in problems]), skipped


class ArraySource:
    """An .npz file with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    ``y`` holds integers, or class names; an array ``classes`` of names may say what the integers mean. Images are read when it
    is known which are wanted, see :mod:`delete_images.data.archives` for the bounds.

    Args:
        path: The file.
        split: Which part, if it has parts.
        explicit: The user named the split, so it must be there.
        label_given: The user gives one label for all; then ``y`` may be missing.

    Attributes:
        labels: int64 (N,); -1 without ``y``.
        class_names: The file's own names, or None where labels are bare integers.

    Raises:
        RequestError: Damaged, missing keys, or arrays of another shape or type.
    """

    def __init__(self, path: Path, split: str, explicit: bool, label_given: bool) -> None:
        self._path, self._archive = path, Archive(path)
        names = self._archive.names
        self._images, labels = self._wanted(path, names, split, explicit, label_given)
        header = self._archive.header(self._images)
        _check_images(header, path)
        self._count, (self._height, self._width) = header.shape[0], header.shape[1:3]
        self.class_names: tuple[str, ...] | None = None
        if "classes" in names:
            given = self._read_vector("classes", None)
            self.class_names = check_class_names(texts(given, path), f"'{path}': classes")
        self.labels = np.full(self._count, -1, dtype=np.int64)
        if labels is not None:
            self.labels = self._read_labels(self._read_vector(labels, self._count))

    @staticmethod
    def _wanted(
        path: Path, keys: Sequence[str], split: str, explicit: bool, label_given: bool
    ) -> tuple[str, str | None]:
        suffix = f"_{split}" if f"x_{split}" in keys else ""
        if f"x{suffix}" not in keys or (explicit and not suffix):
            raise RequestError(
                f"'{path}' has no x_{split}"
                + ("" if explicit else " and no x")
                + f"; it holds {', '.join(keys[:20]) or 'nothing'}"
            )
        if f"y{suffix}" in keys:
            return f"x{suffix}", f"y{suffix}"
        if not label_given:
            raise RequestError(f"'{path}' has x{suffix} but no y{suffix}; add labels, or say them with ?label=NAME")
        return f"x{suffix}", None

    def _read_vector(self, key: str, count: int | None) -> np.ndarray:
        """Read an array of integers or text, ``(count,)`` or ``(count, 1)``, as Keras stores CIFAR's labels."""
        shape, dtype = self._archive.header(key).shape, self._archive.header(key).dtype
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1) or count not in (None, shape[0]):
            due = "; expected a list" if count is None else f" for {count} images; expected one each"
            raise RequestError(
                f"'{self._path}' has {'class names' if count is None else 'labels'} of shape {shape}{due}"
            )
        if dtype.kind not in "iuU":
            raise RequestError(
                f"'{self._path}' has {'class names' if count is None else 'labels'} of type {dtype}; expected "
                f"{'text' if count is None else 'integers or class names'}"
            )
        return self._archive.read(key).reshape(-1)

    def _read_labels(self, labels: np.ndarray) -> np.ndarray:
        if labels.dtype.kind == "U":
            given = texts(labels, self._path)
            own = self.class_names or check_class_names(sorted(set(given)), f"'{self._path}': labels")
            self.class_names = own
            number = {name: i for i, name in enumerate(own)}
            unknown = sorted(set(given) - set(own))
            if unknown:
                raise RequestError(
                    f"'{self._path}' has labels that are not among its classes: {', '.join(unknown[:5])}"
                )
            return np.asarray([number[name] for name in given], dtype=np.int64)
        if self.class_names is not None and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.class_names):
            raise RequestError(
                f"'{self._path}' has labels {labels.min()} to {labels.max()}, but {len(self.class_names)} class names"
            )
        return labels.astype(np.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images uint8 (n, H, W, 3) at ``indices``, ascending; nothing else is held.

        Raises:
            RequestError: Damaged, or more than fits in memory.
        """
        shape = (len(indices), self._height, self._width, 3)
        check_memory(int(np.prod(shape, dtype=object)), f"'{self._path}': {len(indices)} images")
        images = np.empty(shape, np.uint8)
        for place, block in self._archive.blocks(self._images, indices):
            images[place] = block if block.ndim == 4 else block[..., None]  # grey becomes RGB
        return images


def _check_images(header: Header, path: Path) -> None:
    shape, dtype = header.shape, header.dtype
    if dtype != np.uint8:
        raise RequestError(
            f"'{path}' has images of type {dtype}; expected uint8, 0 to 255 (for floats in [0, 1]: "
            "(x * 255).round().astype('uint8'); for 16-bit integers: (x // 257).astype('uint8'))"
        )
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)):
        fix = "; transpose them with x.transpose(0, 2, 3, 1)" if len(shape) == 4 and shape[1] == 3 else ""
        raise RequestError(f"'{path}' has images of shape {shape}; expected (N, height, width, 3) RGB{fix}")
    if 0 in shape:
        raise RequestError(f"'{path}' has images of shape {shape}, i.e. none, or none with a pixel; expected some")
