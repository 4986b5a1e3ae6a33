"""Folders of images and .npz files: labels and names are read first, pixels once the wanted images are known."""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation.copies import thumbnail
from delete_tasks.fileio.images import SUFFIXES, DamagedImageError, read_image, readable_name

from ..models.spec import check_class_names
from .archives import Archive, Header, check_memory, texts

SPLITS = ("train", "val", "test")
MEMORY = 2**27  # bytes of decoded images that each folder keeps

logger = logging.getLogger("delete_images")


def pixels_sha256(image: np.ndarray) -> str:
    """Compute the SHA-256 of an image's size and pixels, as hex."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise RequestError(f"'{folder}' cannot be read ({error.strerror}); make it readable, or remove it") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder or a link to one; raises RequestError for a broken link without the suffix of an image."""
    if entry.is_symlink() and Path(entry.path).suffix.lower() not in SUFFIXES:
        try:
            os.stat(entry.path)
        except OSError as error:
            raise RequestError(f"'{entry.path}' is a broken link ({error.strerror}); fix or remove it") from error
    return entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Return True for the name of an image, also of a broken link or a pipe, which is then reported as unreadable."""
    return entry.name[0] != "." and Path(entry.name).suffix.lower() in SUFFIXES and not entry.is_dir()


def images_in(folder: Path) -> list[Path]:
    """List the images in a folder and its subfolders, sorted; links are followed."""
    images, waiting, visited = [], [folder], set()
    while waiting:
        current = waiting.pop()
        entries = _entries(current)
        status = os.stat(current)
        if (status.st_dev, status.st_ino) in visited:
            continue  # a circular link
        visited.add((status.st_dev, status.st_ino))
        waiting += [Path(entry.path) for entry in entries if _is_folder(entry)]
        images += [Path(entry.path) for entry in entries if _is_image(entry)]
    return sorted(images)


class FolderSource:
    """Reader of a folder with one folder of images for each class, or with such folders ``train/``, ``val/`` or ``test/``. If
    ``explicit``, the split must exist; if ``label_given`` (one label for all), images may also lie in ``root`` itself. No class
    folders or no images are refused. ``labels`` are int64 (N,), indices into the sorted ``class_names``; ``names`` the path of
    each image within the folder, with '/'; ``digests`` and ``thumbnails`` those of the images that were checked, by index."""

    def __init__(self, root: Path, split: str, explicit: bool, label_given: bool) -> None:
        root = root.resolve()
        folders = self._folders(root)
        present = [folder.name for folder in folders if folder.name in SPLITS]
        if present and len(present) == len(folders):
            if split not in present:
                raise RequestError(f"'{root}' has no split '{split}' but {', '.join(present)}; try ?split={present[0]}")
            root = root / split
            folders = self._folders(root)
        elif explicit:
            raise RequestError(f"'{root}' has no folder for the split '{split}' beside its classes; leave out split=")
        loose = sum(map(_is_image, _entries(root)))
        if label_given:
            folders = [root]
        elif loose:
            raise RequestError(
                f"'{root}' holds {loose} images outside of class folders; move them into one folder for each class, or give "
                "their label with ?label=NAME (or ?label=none)"
            )
        paths = [(path, number) for number, folder in enumerate(folders) for path in images_in(folder)]
        if not paths:
            raise RequestError(f"'{root}' holds no images ({', '.join(SUFFIXES[:4])}, ...) in class folders")
        self.class_names = check_class_names([folder.name for folder in folders], f"'{root}'")
        self._take(paths, root)

    def _take(self, paths: Sequence[tuple[Path, int]], root: Path) -> None:
        self.paths = [path for path, _ in paths]
        self.labels = np.asarray([label for _, label in paths], dtype=np.int64)
        self.names = [readable_name(path.relative_to(root).as_posix()) for path in self.paths]
        self.digests: dict[int, str] = {}
        self.thumbnails: dict[int, np.ndarray] = {}
        self._decoded: dict[int, np.ndarray] = {}
        self._room = MEMORY

    @staticmethod
    def _folders(root: Path) -> list[Path]:
        return sorted(Path(entry.path) for entry in _entries(root) if entry.name[0] != "." and _is_folder(entry))

    def read_one(self, index: int) -> np.ndarray:
        """Read image ``index`` as uint8 (H, W, 3) RGB."""
        if index in self._decoded:
            return self._decoded[index]
        try:
            return read_image(self.paths[index])
        except DamagedImageError as error:
            raise RequestError(f"'{self.paths[index]}' is no longer readable ({error.reason}); run again") from error

    def _problem(self, index: int) -> str | None:
        try:
            image = read_image(self.paths[index])
        except DamagedImageError as error:
            return error.reason
        self.digests[index], self.thumbnails[index] = pixels_sha256(image), thumbnail(image)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._decoded[index] = image
        return None

    def check(self, indices: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Decode every chosen image once, before a run begins; keep those that fit into :data:`MEMORY`. Return boolean (n,), True
        for readable ones, and (name, reason) of the others. Refuse if none is, or if one is undamaged but not supported."""
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
    """Reader of an .npz file with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``. ``y`` holds integers, or
    class names; an optional array ``classes`` names the integers. Refuse missing keys, arrays of another shape or type, or beyond
    the limits of :mod:`delete_images.data.archives`. If ``explicit``, the split must exist; if ``label_given`` (one label for
    all), ``y`` may be missing. ``labels`` are int64 (N,), -1 without ``y``; ``class_names`` the file's, or None."""

    def __init__(self, path: Path, split: str, explicit: bool, label_given: bool) -> None:
        self._path, self._archive = path, Archive(path)
        keys = self._archive.names
        suffix = f"_{split}" if f"x_{split}" in keys else ""
        if f"x{suffix}" not in keys or (explicit and not suffix):
            lacking = f"no x_{split}" if explicit else f"no x_{split} and no x"
            raise RequestError(f"'{path}' has {lacking}; it holds {', '.join(keys[:20]) or 'nothing'}")
        if f"y{suffix}" not in keys and not label_given:
            raise RequestError(f"'{path}' has x{suffix} but no y{suffix}; add labels, or give one with ?label=NAME")
        self._images = f"x{suffix}"
        header = self._archive.header(self._images)
        _check_images(header, path)
        self._size = header.shape[1:3]
        self.class_names: tuple[str, ...] | None = None
        if "classes" in keys:
            self.class_names = check_class_names(texts(self._read_vector("classes", None), path), f"'{path}': classes")
        self.labels = np.full(header.shape[0], -1, dtype=np.int64)
        if f"y{suffix}" in keys:
            self.labels = self._to_indices(self._read_vector(f"y{suffix}", header.shape[0]))

    def _read_vector(self, key: str, count: int | None) -> np.ndarray:
        """Read labels of ``count`` images, or class names if it is None: integers or text, (n,) or (n, 1) as in Keras's CIFAR."""
        what, kinds = ("class names", "text") if count is None else ("labels", "integers or class names")
        header = self._archive.header(key)
        if header.shape[1:] not in ((), (1,)) or not header.shape or count not in (None, header.shape[0]):
            due = "; expected a list" if count is None else f" for {count} images; expected one each"
            raise RequestError(f"'{self._path}' has {what} of shape {header.shape}{due}")
        if header.dtype.kind not in "iuU":
            raise RequestError(f"'{self._path}' has {what} of type {header.dtype}; expected {kinds}")
        return self._archive.read(key).reshape(-1)

    def _to_indices(self, labels: np.ndarray) -> np.ndarray:
        if labels.dtype.kind == "U":
            names = texts(labels, self._path)
            self.class_names = self.class_names or check_class_names(sorted(set(names)), f"'{self._path}': labels")
            unknown = sorted(set(names) - set(self.class_names))
            if unknown:
                raise RequestError(f"'{self._path}' has labels not among its classes: {', '.join(unknown[:5])}")
            number = {name: i for i, name in enumerate(self.class_names)}
            return np.asarray([number[name] for name in names], dtype=np.int64)
        if self.class_names is not None and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.class_names):
            raise RequestError(
                f"'{self._path}' has labels {labels.min()} to {labels.max()}, but {len(self.class_names)} class names"
            )
        return labels.astype(np.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Read the images at ``indices`` (ascending), uint8 (n, H, W, 3); no others are held in memory."""
        shape = (len(indices), *self._size, 3)
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
        raise RequestError(f"'{path}' has images of shape {shape}; expected at least one image with at least one pixel")
