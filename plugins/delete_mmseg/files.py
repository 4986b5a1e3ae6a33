"""Images and label maps on disk, looked at before the first step: whole, of one size, with no label the config lacks."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from delete_tasks.display.terminal import track
from delete_tasks.errors import RequestError, first_line, list_names
from delete_tasks.fileio.checkpoint import file_sha256

# What MMSegmentation's own loading writes for labels that a mapping leaves out, whatever the config's ignore index is.
LEFT_OUT = 255
LISTED = 5
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
ORIENTATION = 0x0112


def ignored_labels(config: Any, dataset: Any = None) -> tuple[int, ...]:
    """Collect the ignored labels: the ignore index of each head, its losses and the metric, ascending.

    Args:
        config: Of the model, with ``model`` and perhaps ``test_evaluator``; None takes MMSegmentation's default, 255.
        dataset: A built dataset; 255 is among the labels if it maps numbers to classes (``label_map``, ``reduce_zero_label``).
    """
    config = config or {}
    model = config.get("model") or {}
    found: set[int | None] = set()
    for part in ("decode_head", "auxiliary_head"):
        for head in _listed(model.get(part)):
            found.add(head.get("ignore_index", LEFT_OUT))
            found.update(loss["ignore_index"] for loss in _listed(head.get("loss_decode")) if "ignore_index" in loss)
    for metric in _listed(config.get("test_evaluator")):
        stated = metric.get("ignore_index", LEFT_OUT)
        found.update([stated] if isinstance(stated, int) else stated)
    meta = getattr(dataset, "metainfo", None) or {}
    if not found or meta.get("label_map") or meta.get("reduce_zero_label"):
        found.add(LEFT_OUT)
    return tuple(sorted(label for label in found if label is not None))


def _listed(part: Any) -> Iterator[Mapping[str, Any]]:
    for item in part if isinstance(part, (list, tuple)) else [part]:
        if isinstance(item, Mapping):
            yield item


def read_label(info: Mapping[str, Any], loader: LoadAnnotations) -> NDArray[np.uint8]:
    """Read a sample's label map ``(H, W)`` by its own loader.

    Args:
        info: Of ``dataset.get_data_info``; not changed.
        loader: The dataset's own.

    Raises:
        RequestError: It is missing, not whole, or not one number from 0 to 255 a pixel.
    """
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
        found = f"numbers up to {largest}" if label.ndim == 2 else f"an image of shape {label.shape}"
        raise RequestError(f"{path} holds {found}; expected one number from 0 to 255 for each pixel")
    return label


def check_values(path: str, label: NDArray[np.uint8], classes: int, ignored: Sequence[int]) -> NDArray[np.int64]:
    """Pixels of each label, ``(256,)``.

    Raises:
        RequestError: A label is neither a class nor ignored.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    stray = [int(i) for i in np.flatnonzero(counts) if i >= classes and i not in ignored]
    if stray:
        raise RequestError(
            f"{path} has label {', '.join(map(str, stray[:LISTED]))} on {counts[stray].sum()} pixels; expected 0 to "
            f"{classes - 1}, or the ignore index ({', '.join(map(str, ignored)) or 'none'})"
        )
    return counts


def image_size(info: Mapping[str, Any], loader: LoadImageFromFile | None) -> tuple[int, int] | None:
    """Height and width of a sample's image, after decoding all of it; None where the pipeline reads no image files.

    Args:
        info: Of ``dataset.get_data_info``; not changed.
        loader: The pipeline's own, for formats that Pillow does not know.

    Raises:
        RequestError: It is missing, empty or not whole.
    """
    path = info["img_path"]
    try:
        with Image.open(path) as picture:
            picture.load()  # OpenCV, which pipelines use, fills the rest of half a file with grey and says nothing
            width, height = picture.size
            return (width, height) if picture.getexif().get(ORIENTATION) in TURNED else (height, width)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        return _size_by(loader, info, error)
    except Exception as error:
        raise RequestError(f"{path} cannot be read as an image ({_reason(error, path)})") from error


def _size_by(loader: LoadImageFromFile | None, info: Mapping[str, Any], unknown: Exception) -> tuple[int, int] | None:
    if loader is None:
        return None
    path = info["img_path"]
    try:
        read: Any = loader.transform({**info})
        return tuple(read["img"].shape[:2])  # type: ignore[return-value]
    except Exception as error:
        reason = _reason(error, path) if str(error) else _reason(unknown, path)
        raise RequestError(f"{path} cannot be read as an image ({reason})") from error


def check_sizes(info: Mapping[str, Any], loader: LoadImageFromFile | None, label: NDArray[np.uint8]) -> None:
    """Raise RequestError unless a sample's image is whole and as large as its label map."""
    size = image_size(info, loader)
    if size is not None and size != label.shape and loader is not None:
        size = _size_by(loader, info, RequestError("not read"))  # a loader may leave an image unturned
    if size is not None and size != label.shape:
        raise RequestError(
            f"{info['img_path']} is {size[1]}x{size[0]} and its label map {info['seg_map_path']} "
            f"{label.shape[1]}x{label.shape[0]}; expected one size"
        )


def image_loader(dataset: Any) -> LoadImageFromFile | None:
    """Find the step of a dataset's pipeline that reads images from files; None if there is none."""
    steps = [step for step in dataset.pipeline.transforms if isinstance(step, LoadImageFromFile)]
    return steps[0] if steps else None


def same_files(paths: Iterable[str], known: Iterable[str]) -> list[str]:
    """Select those of ``paths`` that are among ``known``: the same file or, byte for byte, a copy of it. Paths without a file are
    compared by name alone."""
    real = {os.path.realpath(path) for path in known}
    by_size: dict[int, list[str]] = {}
    for path in filter(os.path.isfile, real):
        by_size.setdefault(os.path.getsize(path), []).append(path)
    digest = cache(file_sha256)

    def is_known(path: str) -> bool:
        if os.path.realpath(path) in real:
            return True
        # Pictures of one size in bytes are rare, so hardly any is read.
        alike = by_size.get(os.path.getsize(path), ()) if os.path.isfile(path) else ()
        return any(digest(path) == digest(other) for other in alike)

    return [path for path in paths if is_known(path)]


def look_at_all(look: Callable[[int], bool], total: int, title: str, what: str) -> list[int]:
    """Call ``look`` for each of ``total`` samples, in threads; indices of those for which it is true.

    Raises:
        RequestError: ``look`` raised it; the first few reasons are listed.
    """
    problems: list[str] = []

    def kept(index: int) -> bool:
        try:
            return look(index)
        except RequestError as error:
            problems.append(str(error))
            return False

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = [index for index, shown in enumerate(track(pool.map(kept, range(total)), total, title)) if shown]
    if problems:
        raise RequestError(
            f"{len(problems)} of {total} {what} cannot be used: {list_names(sorted(problems), LISTED, '; ', longest=None)}. Mend "
            "these files, or take them out of the data"
        )
    return found


def _reason(error: Exception, path: str) -> str:
    if not os.path.isfile(path):
        return "nothing there"
    if not os.path.getsize(path):
        return "an empty file"
    return first_line(error)
