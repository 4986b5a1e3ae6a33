"""Segmentors and images as ``delete-tasks attention`` and the erasure record look at them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, MODELS
from torch import Tensor, nn

from delete_tasks.checkpoint import load_weights
from delete_tasks.compute import choose_device
from delete_tasks.config_file import load_config
from delete_tasks.errors import RequestError
from delete_tasks.recipe import no_downloads
from delete_tasks.task import OpenModels, Sample

from .files import ignored_labels
from .labels import data_info

SPLITS = ("test", "val", "train")
LEAST_PIXELS = 200  # of a class in a picture: fewer are less than one place of most networks' maps
IGNORED = 255


def build_segmentor(cfg: Config, path: str) -> Any:
    """The config's model with a file's weights, strictly loaded, in eval mode, on a GPU if there is one."""
    no_downloads(cfg.model)
    model: Any = revert_sync_batchnorm(MODELS.build(cfg.model))
    load_weights(model, path)
    return model.to(choose_device()).eval()


def open_segmentors(paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None:
    """Checkpoints of the model that ``options['config']`` (a path or a Config) describes; None without one."""
    if not options.get("config"):
        return None
    cfg = options["config"]
    cfg = cfg.copy() if isinstance(cfg, Config) else load_config(cfg)
    init_default_scope(cfg.get("default_scope", "mmseg"))
    models = {name: build_segmentor(cfg, path) for name, path in paths.items()}
    dataset = DATASETS.build(_loader(cfg, "test").dataset)
    names = list((dataset.metainfo or {}).get("classes") or ())
    return OpenModels(dict(models), names, context=(cfg, dataset))


def class_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits ``(N, C, H, W)`` at the input's size; the whole picture at once, whatever the config's test mode."""
    size = tuple(inputs.shape[-2:])
    metas = [{"img_shape": size, "pad_shape": size, "ori_shape": size}] * len(inputs)
    segmentor: Any = model
    return segmentor.encode_decode(inputs, metas)


def iter_samples(
    opened: OpenModels, inputs: Sequence[str], class_id: int, kept: Sequence[int], options: Mapping[str, Any]
) -> Iterator[Sample]:
    """Images in a fixed random order; of each, a sample for the class and for each kept class that shows in it.

    Args:
        opened: See :func:`open_segmentors`.
        inputs: Images; or 'test' (default), 'val' or 'train' for a split of the config, read by the test pipeline.
        class_id: The class that was forgotten.
        kept: Others; none takes the three that show most beside it.
        options: Not used.

    Raises:
        RequestError: A file that is no image, a split that the config lacks.
    """
    cfg, test = opened.context
    for word in inputs or ("test",):
        dataset = open_split(cfg, test, word) if word in SPLITS else None
        if dataset is None:
            yield from _of(opened, _from_file(word, test), word, class_id, kept)
            continue
        for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
            name = os.path.basename(data_info(dataset, index)["img_path"])
            yield from _of(opened, dataset[index], name, class_id, kept)


def _of(opened: OpenModels, data: Any, name: str, class_id: int, kept: Sequence[int]) -> Iterator[Sample]:
    model: Any = opened.models["original"]
    with torch.no_grad():
        batch = model.data_preprocessor(pseudo_collate([data]), False)
    inputs = batch["inputs"][0].cpu()
    size = tuple(inputs.shape[-2:])
    picture = np.ascontiguousarray(data["inputs"].permute(1, 2, 0).numpy()[..., ::-1])
    if picture.shape[:2] != size:
        picture = np.pad(picture, [(0, size[0] - picture.shape[0]), (0, size[1] - picture.shape[1]), (0, 0)])
    labels = pixel_labels(data, size)
    whose = "pixels of the class"
    if labels is not None:
        labels[np.isin(labels, ignored_labels(*opened.context))] = IGNORED
    else:
        with torch.no_grad():
            labels = class_logits(model, batch["inputs"])[0].argmax(0).cpu().numpy()
        whose = "pixels that the original gives the class"
    for number, wanted in enumerate((class_id, *(kept or _largest(labels, class_id)))):
        region = labels == wanted
        if region.sum() >= LEAST_PIXELS:
            yield Sample(name, picture, inputs, int(wanted), number == 0, region, whose)


def pixel_labels(data: Any, size: tuple[int, ...]) -> Any:
    """Labels ``(H, W)`` of one sample at the network's input size, int64; None without annotations."""
    truth = getattr(data["data_samples"], "gt_sem_seg", None)
    if truth is None:
        return None
    labels = truth.data.float()[None]
    if tuple(labels.shape[-2:]) != size:
        shape = data["data_samples"].metainfo.get("img_shape", size)[:2]
        labels = F.interpolate(labels, size=tuple(shape), mode="nearest-exact")
        labels = F.pad(labels, (0, size[1] - shape[1], 0, size[0] - shape[0]), value=IGNORED)
    return labels[0, 0].numpy().astype(np.int64)


def _largest(labels: Any, class_id: int, most: int = 3) -> list[int]:
    ids, counts = np.unique(labels[(labels != IGNORED) & (labels != class_id)], return_counts=True)
    return ids[np.argsort(-counts, kind="stable")][:most].tolist()


def _loader(cfg: Config, split: str) -> Any:
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        raise RequestError(f"the config has no {split}_dataloader, which says what its images and classes are")
    return loader


def open_split(cfg: Config, test: Any, word: str) -> Any:
    """A split of the config, read by the pipeline of its test split, which is ``test``."""
    if word == "test":
        return test
    dataset = DATASETS.build(_loader(cfg, word).dataset)
    if hasattr(dataset, "pipeline") and hasattr(test, "pipeline"):
        dataset.pipeline = test.pipeline  # a picture as it is, not a random crop of it
    return dataset


def _from_file(path: str, test: Any) -> Any:
    if not Path(path).is_file():
        raise RequestError(f"'{path}' is no file; give images, or one of {', '.join(SPLITS)} for a split of the config")
    known = {os.path.realpath(data_info(test, i)["img_path"]): i for i in range(len(test))}
    if os.path.realpath(path) in known:
        return test[known[os.path.realpath(path)]]
    steps = [step for step in test.pipeline.transforms if not isinstance(step, LoadAnnotations)]
    try:
        return Compose(steps)({"img_path": path, "reduce_zero_label": False, "seg_fields": []})
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"'{path}' cannot be read as an image ({error}); give a .png, .jpg or .webp file") from error
