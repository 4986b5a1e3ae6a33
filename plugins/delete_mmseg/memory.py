"""Memory of large images: an estimate before the run, and windows for images that do not fit."""

import contextlib
import copy
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms.base import BaseTransform
from mmengine.config import ConfigDict
from mmseg.registry import TRANSFORMS
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from delete_tasks.errors import RequestError
from delete_tasks.fileio.processes import raise_lost
from delete_tasks.losses import masked_kl_div
from delete_tasks.losses.masks import class_mask

from .heads import class_logits
from .labels import leaves

LARGE = 2048 * 2048  # pixels; below, nothing is estimated, and an image is read as a whole
TILES = (1024, 512, 256)  # sides of windows, in pixels
PROBES = (256, 384)  # sides of the images on which bytes are counted
COPIES = 3  # of an image's logits: the windows' sum, a padded window, and at the annotation's size
USABLE = 0.8  # share of the memory that tensors may take: libraries and data need some


class LiveBytes(TorchDispatchMode):
    """Counter of the bytes of tensors that exist at once; ``most`` is their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return tree_map_only(Tensor, self._count, func(*args, **(kwargs or {})))

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.sizes:
            self.sizes[storage._cdata] = storage.nbytes()
            self.most = max(self.most, sum(self.sizes.values()))
            weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
        return tensor


def bytes_per_pixel(step: Callable[[int], Any]) -> float:
    """Measure the bytes that ``step``, called with an image's side, takes for each further pixel of the image."""
    most = []
    for side in PROBES:
        with LiveBytes() as live:
            step(side)
        most.append(live.most)
    return (most[1] - most[0]) / (PROBES[1] ** 2 - PROBES[0] ** 2)


def estimate(model: Any, train: bool) -> float:
    """Estimate the bytes for each pixel of a training step, or of a prediction without the copies of its logits."""
    student, device = copy.deepcopy(model).requires_grad_(train), next(model.parameters()).device

    def step(side: int) -> None:
        inputs = torch.zeros(1, 3, side, side, device=device)
        logits = class_logits(student, inputs)
        if train:
            with torch.no_grad():
                teacher = class_logits(model, inputs)
            masked_kl_div(logits, teacher, class_mask([0], logits.shape[1], 4, device)).backward()

    return bytes_per_pixel(step)


def machine_bytes(device: torch.device) -> int:
    """Read the memory of a device; of a CPU, what each process of the run on it may take."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # a container's limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def largest(dataset: Any) -> tuple[int, int]:
    """Find the width and height of the largest image as the pipeline gives it; zeros if it cannot be read, as checks report."""

    def pixels(index: int) -> int:
        with Image.open(dataset.get_data_info(index)["img_path"]) as picture:
            return picture.width * picture.height

    try:
        height, width = dataset[max(range(len(dataset)), key=pixels)]["inputs"].shape[-2:]
    except Exception as error:  # Pillow, OpenCV, file backends and pipelines raise a dozen kinds
        raise_lost(error)
        return 0, 0
    return width, height


def fit(
    model: Any, cfg: Any, train: Any, test: Any, ids: Sequence[int], batch: int, limit: float | None = None
) -> list[str]:
    """Estimate the memory that large images take; return sentences on sizes, memory and windows, none for small images.
    ``limit``, in GB, takes the place of :data:`USABLE` of the memory. If they do not fit, training, on ``batch`` images per step
    and process, crops the images of ``train`` at the classes ``ids`` (its pipelines are changed), and ``cfg`` and the original,
    ``model``, get a ``test_cfg`` of windows that overlap by a third. Images that do not fit in windows either are refused."""
    notes, total = list[str](), machine_bytes(next(model.parameters()).device)
    usable = USABLE * total if limit is None else limit * 2**30
    has = f"This machine has {total / 2**30:.1f} GB" if limit is None else f"The limit is {limit:g} GB"

    def side_of(each: float, beside: float, what: str, change: str) -> int | None:
        """Choose the side of the windows that fit, of ``each`` byte a pixel beside others; None if whole images do."""
        need = each * width * height * images + beside
        notes.append(f"{what} of up to {width}x{height} pixels takes about {need / 2**30:.1f} GB of memory.")
        if need <= usable:
            return None
        for side in TILES:
            if each * side**2 * images + beside <= usable:
                notes.append(f"{has}: {change} {side}x{side} pixels.")
                return side
        share = (usable / (each * TILES[-1] ** 2 * images + beside)) ** 0.5
        raise RequestError(
            f"{notes[-1][:-1]}, and does not fit into {limit or total / 2**30:.1f} GB even in windows; give images of at most "
            f"{share:.2f} times their width and height (Resize in the config's pipelines), a smaller --batch-size, or more memory"
        )

    (width, height), images = largest(train), batch
    if width * height * images > LARGE:
        what = f"A training step on {batch} image{'s' * (batch > 1)}"
        side = side_of(estimate(model, True), 0, what, "training reads windows at the classes, of")
        if side:
            for part in leaves(train):
                part.pipeline.transforms.insert(-1, CropAtClasses(side, ids))
    (width, height), images = largest(test), 1
    if width * height > LARGE:
        logits = 4 * COPIES * model.out_channels * width * height
        side = side_of(estimate(model, False), logits, "Predicting an image", "prediction goes in windows of")
        if side:
            size = {"crop_size": (side, side), "stride": (2 * side // 3, 2 * side // 3)}
            cfg.model.test_cfg = model.test_cfg = ConfigDict(mode="slide", **size)
    return notes


def window(labels: np.ndarray, ids: Sequence[int], side: int | None = None, rng: Any = None) -> tuple[slice, slice]:
    """Choose a window in a label map ``(H, W)``, around a pixel of ``ids`` if there is one: a random one, or without ``rng`` the
    middle one in order of rows. Without ``side`` it is all of an image that is not large, and the largest tile of others."""
    side = side or (TILES[0] if labels.size > LARGE else max(labels.shape))
    places: Any = np.argwhere(np.isin(labels, list(ids)))
    if not len(places):
        places = [np.array(labels.shape) // 2 if rng is None else rng.integers(labels.shape)]
    place = places[len(places) // 2 if rng is None else rng.integers(len(places))]
    begin = np.clip(place - side // 2, 0, np.maximum(0, np.array(labels.shape) - side)).tolist()
    return slice(begin[0], begin[0] + side), slice(begin[1], begin[1] + side)


@TRANSFORMS.register_module()
class CropAtClasses(BaseTransform):
    """Crop of an image and its label map to a window around a random pixel of the classes ``ids``, see :func:`window`."""

    def __init__(self, side: int, ids: Sequence[int]) -> None:
        self.side, self.ids = side, list(ids)

    def transform(self, results: dict) -> dict:
        rng = np.random.default_rng(np.random.randint(2**31))  # the run's seeds set NumPy's own
        size, part = results["img"].shape[:2], window(results["gt_seg_map"], self.ids, self.side, rng)
        maps = {k: v for k, v in results.items() if isinstance(v, np.ndarray) and v.shape[:2] == size}
        results.update({name: value[part] for name, value in maps.items()})
        results["img_shape"] = results["img"].shape[:2]
        return results
