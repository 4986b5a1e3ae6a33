"""Memory of large images: an estimate before the run, and tiles for those that do not fit."""

import contextlib
import copy
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms.base import BaseTransform
from mmengine.config import ConfigDict
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from delete_tasks.errors import RequestError
from delete_tasks.evaluation import ConfusionState
from delete_tasks.fileio.processes import raise_lost
from delete_tasks.losses import masked_kl_div

from .heads import class_logits
from .labels import data_info, leaves

LARGE = 2048 * 2048  # pixels; below, nothing is estimated, and an image is read as a whole
TILES = (1024, 512, 256)  # sides of windows, in pixels
PROBES = (256, 384)  # sides of the images on which bytes are counted
USABLE = 0.7  # share of the memory that tensors may take: libraries and data need some


class LiveBytes(TorchDispatchMode):
    """Counter of the bytes of tensors that exist at once; ``most`` is their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return tree_map_only(Tensor, self._count, func(*args, **(kwargs or {})))

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, key)
        return tensor

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def bytes_per_pixel(step: Callable[[int], Any]) -> float:
    """Measure the bytes that ``step``, called with an image's side, takes for each further pixel of the image."""
    most = []
    for side in PROBES:
        with LiveBytes() as live:
            step(side)
        most.append(live.most)
    return (most[1] - most[0]) / (PROBES[1] ** 2 - PROBES[0] ** 2)


def training_bytes(model: Any) -> float:
    """Estimate the bytes of a training step for each pixel of the batch."""
    student = copy.deepcopy(model).requires_grad_(True)
    device = next(model.parameters()).device

    def step(side: int) -> None:
        inputs = torch.zeros(1, 3, side, side, device=device)
        with torch.no_grad():
            teacher = class_logits(model, inputs)
        logits = class_logits(student, inputs)
        mask = torch.zeros(1, logits.shape[1], 1, 1, dtype=torch.bool, device=device)
        mask[:, 0] = True
        masked_kl_div(logits, teacher, mask).backward()

    return bytes_per_pixel(step)


def prediction_bytes(model: Any, window: int | None = None) -> float:
    """Estimate the bytes of a prediction for each pixel of the image, without those within windows if it goes in these."""
    device = next(model.parameters()).device

    def step(side: int) -> None:
        inputs, previous = torch.zeros(1, 3, side, side, device=device), None
        meta = dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (side, side))
        for _ in range(2):  # the outputs of the row before are still there
            with torch.no_grad():
                (sample,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
            logits = sample.seg_logits.data
            state = ConfusionState(len(logits), [0])
            state.update(logits, torch.zeros(side, side, dtype=torch.long), sample.pred_sem_seg.data[0])
            previous = sample
        del previous

    with _windows(model, window):
        return bytes_per_pixel(step)


@contextlib.contextmanager
def _windows(model: Any, side: int | None) -> Iterator[None]:
    before = model.test_cfg
    model.test_cfg = before if side is None else windows_of(side)
    try:
        yield
    finally:
        model.test_cfg = before


def windows_of(side: int) -> ConfigDict:
    """Make the ``test_cfg`` of a prediction in windows that overlap by a third."""
    return ConfigDict(mode="slide", crop_size=(side, side), stride=(2 * side // 3, 2 * side // 3))


def machine_bytes(device: torch.device) -> int:
    """Read the memory of a device; of a CPU, what each process of the run on it may take."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # a container's limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def largest(dataset: Any) -> tuple[int, int]:
    """Find the height and width of the dataset's largest image, as its pipeline gives it; zeros if it cannot be read, which the
    checks of files report."""

    def pixels(index: int) -> int:
        with Image.open(data_info(dataset, index)["img_path"]) as picture:
            return picture.width * picture.height

    try:
        height, width = dataset[max(range(len(dataset)), key=pixels)]["inputs"].shape[-2:]
    except Exception as error:  # Pillow, OpenCV, file backends and pipelines raise a dozen kinds
        raise_lost(error)
        return 0, 0
    return height, width


def fit(model: Any, cfg: Any, train: Any, test: Any, ids: Sequence[int], batch: int) -> list[str]:
    """Estimate the memory that large images take and, if they do not fit, read them in tiles: training crops the images of
    ``train`` at the classes ``ids``, and ``cfg`` and ``model`` get a ``test_cfg`` of windows.

    Args:
        model: The original.
        cfg: Config of the run, which is changed.
        train, test: Opened data sets.
        ids: The forgotten classes.
        batch: Images of a training step and process.

    Returns:
        Sentences on sizes, memory and tiles; none for small images.

    Raises:
        RequestError: The images do not fit in tiles either; the size that does is named.
    """
    device = next(model.parameters()).device
    total, notes = machine_bytes(device), list[str]()
    usable = USABLE * total
    height, width = largest(train)
    if batch * height * width > LARGE:
        each = training_bytes(model)
        need, note = each * batch * height * width, f"of {batch} image(s) of up to {width}x{height} pixels takes about"
        notes.append(f"A training step {note} {_gb(need)} of memory.")
        if need > usable:
            side = _tile(each * batch, 0, usable, f"a training step {note} {_gb(need)}", total)
            for part in leaves(train):
                part.pipeline.transforms.insert(-1, CropAtClasses(side, ids))
            notes.append(f"This machine has {_gb(total)}: training reads {side}x{side} pixels of each, at the classes.")
    height, width = largest(test)
    pixels = height * width
    if pixels > LARGE:
        each, note = prediction_bytes(model), f"an image of up to {width}x{height} pixels takes about"
        need = each * pixels
        notes.append(f"Predicting {note} {_gb(need)}.")
        if need > usable:
            whole = prediction_bytes(model, window=PROBES[0] // 2)
            side = _tile(
                each, whole * pixels, usable, f"predicting {note} {_gb(whole * pixels)}, even in windows", total
            )
            cfg.model.test_cfg = model.test_cfg = windows_of(side)
            notes.append(f"This machine has {_gb(total)}: prediction goes in windows of {side}x{side} pixels.")
    return notes


def _tile(each: float, beside: float, usable: float, what: str, total: int) -> int:
    """Choose the largest tile of which ``each`` byte a pixel fits in ``usable`` bytes, beside others."""
    for side in TILES:
        if each * side**2 + beside <= usable:
            return side
    share = (usable / (each * TILES[-1] ** 2 + beside)) ** 0.5
    raise RequestError(
        f"{what}, and this machine has {_gb(total)}; give images of at most {share:.2f} times their width and height "
        "(Resize in the config's pipelines), a smaller batch (--batch-size), or a machine with more memory"
    )


def _gb(size: float) -> str:
    return f"{size / 2**30:.1f} GB"


# Windows --------------------------------------------------------------------------------------------------------------


def window(labels: np.ndarray, ids: Sequence[int], side: int | None = None, rng: Any = None) -> tuple[slice, slice]:
    """Choose a window in a label map ``(H, W)``, around a pixel of ``ids`` if there is one: a random one, or without ``rng`` the
    middle one in order of rows. Without ``side`` it is all of an image that is not large, and the largest tile of others."""
    side = side or (TILES[0] if labels.size > LARGE else max(labels.shape))
    rows, columns = np.nonzero(np.isin(labels, list(ids)))
    if not len(rows):
        rows, columns = (axis.ravel() for axis in np.indices((1, 1)) + np.reshape(labels.shape, (2, 1, 1)) // 2)
        if rng is not None:
            rows, columns = (rng.integers(0, size, 1) for size in labels.shape)
    chosen = len(rows) // 2 if rng is None else int(rng.integers(len(rows)))
    slices = []
    for place, size in zip((rows[chosen], columns[chosen]), labels.shape, strict=True):
        begin = int(np.clip(place - side // 2, 0, max(0, size - side)))
        slices.append(slice(begin, min(begin + side, size)))
    return slices[0], slices[1]


@TRANSFORMS.register_module()
class CropAtClasses(BaseTransform):
    """Crop of an image and its label map to a window around a random pixel of the classes ``ids``, see :func:`window`."""

    def __init__(self, side: int, ids: Sequence[int]) -> None:
        self.side, self.ids = side, list(ids)

    def transform(self, results: dict) -> dict:
        rng = np.random.default_rng(np.random.randint(2**31))
        size, part = results["img"].shape[:2], window(results["gt_seg_map"], self.ids, self.side, rng)
        for name, value in results.items():
            if isinstance(value, np.ndarray) and value.shape[:2] == size:
                results[name] = value[part]
        results["img_shape"] = results["img"].shape[:2]
        return results
