"""Checks of images and label maps on disk before the first step: undamaged, of one size, without unknown labels."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from delete_tasks.display.progress import track
from delete_tasks.errors import RequestError, first_line
from delete_tasks.evaluation.copies import SIDE, thumbnail
from delete_tasks.fileio.checkpoint import file_sha256

# MMSegmentation's own loading writes this for labels that a mapping leaves out, whatever the config's ignore index is.
LEFT_OUT = 255
LISTED = 5
DRAFT = 128  # least side, in pixels, at which images are compared


def ignored_labels(config: Any, dataset: Any = None) -> tuple[int, ...]:
    """Collect the ignored labels, ascending: the ignore index of each head, loss and metric in ``config``, by default 255, which
    is among them as well if the built ``dataset`` maps numbers to classes (``label_map``, ``reduce_zero_label``)."""
    config = config or {}
    model = config.get("model") or {}
    labels: set[int | None] = set()
    for part in ("decode_head", "auxiliary_head"):
        for head in _mappings(model.get(part)):
            labels.add(head.get("ignore_index", LEFT_OUT))
            labels.update(loss["ignore_index"] for loss in _mappings(head.get("loss_decode")) if "ignore_index" in loss)
    for metric in _mappings(config.get("test_evaluator")):
        index = metric.get("ignore_index", LEFT_OUT)
        labels.update([index] if isinstance(index, int) else index)
    meta = getattr(dataset, "metainfo", None) or {}
    if not labels or meta.get("label_map") or meta.get("reduce_zero_label"):
        labels.add(LEFT_OUT)
    return tuple(sorted(label for label in labels if label is not None))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(item, Mapping)]


def read_label(info: Mapping[str, Any], loader: LoadAnnotations) -> NDArray[np.uint8]:
    """Read a sample's label map ``(H, W)`` by its dataset's loader; refuse one that is missing, damaged, or not 8 bits deep."""
    path = info.get("seg_map_path")
    if not path or not os.path.isfile(path):
        raise RequestError(
            f"no label map for {info.get('img_path')} (looked for {path}; to forget without labels, use select='teacher')"
        )
    try:
        with Image.open(path) as picture:
            # Read as 8 bits, a 16-bit map of larger numbers would pass for other classes.
            largest = int(np.asarray(picture).max()) if picture.mode[0] in "IF" else 0
            if loader.imdecode_backend != "pillow":
                picture.load()  # OpenCV takes half a file for a whole one
        label = loader.transform({**info, "seg_fields": []})["gt_seg_map"]
    except Exception as error:  # Pillow, OpenCV and file backends raise a dozen kinds for damaged files
        raise RequestError(f"{path} cannot be read as a label map ({_reason(error, path)})") from error
    if label.ndim != 2 or largest > np.iinfo(np.uint8).max:
        content = f"numbers up to {largest}" if label.ndim == 2 else f"an image of shape {label.shape}"
        raise RequestError(f"{path} holds {content}; expected one number from 0 to 255 for each pixel")
    return label


def count_labels(path: str, label: NDArray[np.uint8], classes: int, ignored: Sequence[int]) -> NDArray[np.int64]:
    """Count the pixels of each label, ``(256,)``; refuse a label that is neither a class nor ignored."""
    counts = np.bincount(label.ravel(), minlength=256)
    stray = [int(i) for i in np.flatnonzero(counts) if i >= classes and i not in ignored]
    if stray:
        raise RequestError(
            f"{path} has label {', '.join(map(str, stray[:LISTED]))} on {counts[stray].sum()} pixels; expected 0 to "
            f"{classes - 1}, or the ignore index ({', '.join(map(str, ignored)) or 'none'})"
        )
    return counts


def image_size(info: Mapping[str, Any], loader: LoadImageFromFile | None) -> tuple[int, ...] | None:
    """Read the height and width of a sample's image by decoding all of it; None if the pipeline reads no image files. Refuse one
    that is missing, empty or truncated. The pipeline's ``loader`` reads formats that Pillow does not know."""
    path = info["img_path"]
    try:
        with Image.open(path) as picture:
            # This decodes all of it. OpenCV, which pipelines use, fills the rest of half a file with grey without an error.
            width, height = ImageOps.exif_transpose(picture).size
            return height, width
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        return None if loader is None else _size_by(loader, info, error)
    except Exception as error:
        raise RequestError(f"{path} cannot be read as an image ({_reason(error, path)})") from error


def _size_by(loader: LoadImageFromFile, info: Mapping[str, Any], unknown: Exception | None = None) -> tuple[int, ...]:
    path = info["img_path"]
    try:
        loaded: Any = loader.transform({**info})
        return tuple(loaded["img"].shape[:2])
    except Exception as error:
        reason = _reason(error if str(error) or unknown is None else unknown, path)
        raise RequestError(f"{path} cannot be read as an image ({reason})") from error


def check_sizes(info: Mapping[str, Any], loader: LoadImageFromFile | None, label: NDArray[np.uint8]) -> None:
    """Raise RequestError unless a sample's image is undamaged and as large as its label map."""
    size = image_size(info, loader)
    if size is not None and size != label.shape and loader is not None:
        size = _size_by(loader, info)  # a loader may ignore an image's orientation
    if size is not None and size != label.shape:
        raise RequestError(
            f"{info['img_path']} is {size[1]}x{size[0]} and its label map {info['seg_map_path']} "
            f"{label.shape[1]}x{label.shape[0]}; expected one size"
        )


def image_loader(dataset: Any) -> LoadImageFromFile | None:
    """Find the step of a dataset's pipeline that reads images from files; None if there is none."""
    return next((step for step in dataset.pipeline.transforms if isinstance(step, LoadImageFromFile)), None)


def same_files(paths: Iterable[str], others: Iterable[str]) -> list[str]:
    """Select ``paths`` that are among ``others``: the same file or a copy, byte for byte; by name alone if there is no file."""
    real = {os.path.realpath(path) for path in others}
    by_size: dict[int, list[str]] = {}
    for path in filter(os.path.isfile, real):
        by_size.setdefault(os.path.getsize(path), []).append(path)
    digest = cache(file_sha256)

    def is_among_others(path: str) -> bool:
        if os.path.realpath(path) in real:
            return True
        # Images of the same size in bytes are rare, so hardly any is read.
        candidates = by_size.get(os.path.getsize(path), ()) if os.path.isfile(path) else ()
        return any(digest(path) == digest(candidate) for candidate in candidates)

    return [path for path in paths if is_among_others(path)]


def thumbnails(paths: Sequence[str]) -> NDArray[np.uint8]:
    """Make the thumbnails ``(N, SIDE, SIDE)`` of images, in threads; of one that Pillow does not read, a blank one."""

    def read(path: str) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as picture:
                picture.draft("RGB", (DRAFT, DRAFT))  # a JPEG is decoded at an eighth of its size at least
                return thumbnail(np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))
        except (OSError, ValueError, Image.DecompressionBombError):
            return np.zeros((SIDE, SIDE), np.uint8)

    return np.array(in_threads(read, paths, "Comparing images"), np.uint8).reshape(-1, SIDE, SIDE)


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], title: str) -> list[Any]:
    """Call a function that reads files on each item, with a progress bar."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(track(pool.map(function, items), len(items), title))


def _reason(error: Exception, path: str) -> str:
    if not os.path.isfile(path):
        return "nothing there"
    return first_line(error) if os.path.getsize(path) else "an empty file"
