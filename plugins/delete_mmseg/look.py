"""Samples of segmentation data for attention."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmseg.datasets.transforms import LoadAnnotations

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Opened, Sample

from .files import ignored_labels
from .heads import class_logits
from .memory import window
from .splits import SPLITS, Splits

LEAST_PIXELS = 200  # of a class in an image: fewer are less than one location of most networks' maps
IGNORED = 255


def look_at_scenes(
    opened: Opened, splits: Splits, inputs: Sequence[str], class_id: int, others: Sequence[int]
) -> Iterator[Sample]:
    """List images in a fixed random order, with a sample for the class and for each other class in the image; ``look`` of
    :class:`Opened`. ``inputs`` are images; or 'test' (default), 'val' or 'train' for a split of the config, read by the test
    pipeline. No ``others`` takes the three largest classes beside it. Refuse files that are no image, and unknown splits."""
    for word in inputs or ("test",):
        if word not in SPLITS:
            yield from _samples_of(opened, splits, _from_file(word, splits.test), word, class_id, others)
            continue
        dataset = splits.open(word)
        for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
            name = os.path.basename(dataset.get_data_info(index)["img_path"])
            yield from _samples_of(opened, splits, dataset[index], name, class_id, others)


def _samples_of(
    opened: Opened, splits: Splits, data: Any, name: str, class_id: int, others: Sequence[int]
) -> Iterator[Sample]:
    model: Any = opened.models["original"].module
    with torch.no_grad():
        batch = model.data_preprocessor(pseudo_collate([data]), False)
    inputs = batch["inputs"][0].cpu()
    size = tuple(inputs.shape[-2:])
    rgb = data["inputs"].permute(1, 2, 0).numpy()[..., ::-1]
    picture = np.pad(rgb, [(0, size[0] - rgb.shape[0]), (0, size[1] - rgb.shape[1]), (0, 0)])
    labels = pixel_labels(data, size)
    # Of large images a window, since attention takes several times an image's memory.
    part = window(np.full(size, IGNORED) if labels is None else labels, [class_id])
    inputs, picture, labels = inputs[(..., *part)], picture[part], None if labels is None else labels[part]
    region_is = "pixels of the class"
    if labels is not None:
        labels[np.isin(labels, ignored_labels(splits.cfg, splits.test))] = IGNORED
    else:
        with torch.no_grad():
            labels = class_logits(model, inputs[None].to(batch["inputs"].device))[0].argmax(0).cpu().numpy()
        region_is = "pixels that the original assigns to the class"
    ids, counts = np.unique(labels[(labels != IGNORED) & (labels != class_id)], return_counts=True)
    largest = ids[np.argsort(-counts, kind="stable")][:3]
    for number, index in enumerate((class_id, *(others or largest))):
        region = labels == index
        if region.sum() >= LEAST_PIXELS:
            yield Sample(name, picture, inputs, int(index), number == 0, region, region_is)


def pixel_labels(data: Any, size: tuple[int, ...]) -> Any:
    """Read the labels ``(H, W)`` of one sample at the network's input size, int64; None without annotations."""
    truth = getattr(data["data_samples"], "gt_sem_seg", None)
    if truth is None:
        return None
    labels = truth.data.float()[None]
    if tuple(labels.shape[-2:]) != size:
        shape = data["data_samples"].metainfo.get("img_shape", size)[:2]
        labels = torch.nn.functional.interpolate(labels, size=tuple(shape), mode="nearest-exact")
        labels = torch.nn.functional.pad(labels, (0, size[1] - shape[1], 0, size[0] - shape[0]), value=IGNORED)
    return labels[0, 0].numpy().astype(np.int64)


def _from_file(path: str, test: Any) -> Any:
    if not Path(path).is_file():
        raise RequestError(f"'{path}' is no file; give images, or one of {', '.join(SPLITS)} for a split of the config")
    indices = {os.path.realpath(test.get_data_info(i)["img_path"]): i for i in range(len(test))}
    if os.path.realpath(path) in indices:
        return test[indices[os.path.realpath(path)]]
    steps = [step for step in test.pipeline.transforms if not isinstance(step, LoadAnnotations)]
    try:
        return Compose(steps)({"img_path": path, "reduce_zero_label": False, "seg_fields": []})
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"'{path}' cannot be read as an image ({error}); give a .png, .jpg or .webp file") from error
