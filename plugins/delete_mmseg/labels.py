"""Selection of the images that contain a class, by annotations or by the original model's predictions."""

import copy
import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from mmcv.transforms import TRANSFORMS, LoadAnnotations
from mmcv.transforms.base import BaseTransform
from mmengine.dataset import Compose, pseudo_collate
from torch import nn

from delete_tasks.display.progress import track
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation.copies import Copies, find_alike, leave_out
from delete_tasks.evaluation.forget_data import ForgetData
from delete_tasks.model.modes import in_eval_mode

from . import files


@TRANSFORMS.register_module()
class LoadNoAnnotations(BaseTransform):
    """Replacement of LoadAnnotations without annotations: every pixel is void (255), so that crops and flips still work."""

    def transform(self, results: dict) -> dict:
        results["gt_seg_map"] = np.full(results["img"].shape[:2], 255, np.uint8)
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results


def leaf(dataset: Any, index: int) -> Any:
    """Find the dataset, inside wrappers (Concat, Repeat, ClassBalanced, MultiImageMix), that holds sample ``index``."""
    if hasattr(dataset, "datasets"):
        number, index = dataset._get_ori_dataset_idx(index)
        return leaf(dataset.datasets[number], index)
    if hasattr(dataset, "dataset"):
        find = getattr(dataset, "_get_ori_dataset_idx", lambda index: index % len(dataset.dataset))
        return leaf(dataset.dataset, find(index))
    if not hasattr(dataset, "pipeline"):
        raise RequestError(f"{type(dataset).__name__} has no pipeline, so its annotations cannot be found")
    return dataset


def leaves(dataset: Any) -> list[Any]:
    """List all datasets that hold samples."""
    if hasattr(dataset, "datasets"):
        return [inner for part in dataset.datasets for inner in leaves(part)]
    return leaves(dataset.dataset) if hasattr(dataset, "dataset") else [dataset]


def loader_of(dataset: Any, what: str = "training samples") -> LoadAnnotations:
    """Find the step that reads a leaf dataset's annotations, with its label_map; ``what`` names the samples in the message."""
    for step in dataset.pipeline.transforms:
        if isinstance(step, LoadAnnotations):
            return step
    raise RequestError(
        f"the pipeline of the {what} ({type(dataset).__name__}) has no LoadAnnotations, so no image's labels can be read; to "
        "forget without labels, use select='teacher'"
    )


def missing_labels(dataset: Any) -> str | None:
    """Return the reason why no sample of a dataset has labels; None if one has a label map."""
    if not any(isinstance(step, LoadAnnotations) for part in leaves(dataset) for step in part.pipeline.transforms):
        return "their pipeline has no LoadAnnotations"
    paths = [dataset.get_data_info(index).get("seg_map_path") or "" for index in range(len(dataset))]
    return None if any(map(os.path.isfile, paths)) else f"there is no label map, e.g. '{paths[0]}'"


def drop_annotations(dataset: Any, *instead: BaseTransform) -> None:
    """Remove the steps that read annotations from the pipelines of a dataset, or put other steps in their place."""
    for part in leaves(dataset):
        steps = part.pipeline.transforms
        steps[:] = [new for step in steps for new in (instead if isinstance(step, LoadAnnotations) else [step])]


def by_label(
    dataset: Any, ids: Sequence[int], config: Any = None, what: str = "training samples", images: str = "of the classes"
) -> list[int]:
    """Find the samples whose annotations contain a class of ``ids``. All labels are checked, and the ``images`` 'of the classes',
    'all', or 'alone', without labels: refuse, by name, label maps that are missing, damaged, of another size than their image or
    with labels that are no class, and damaged images. ``config`` gives the ignore index; ``what`` names the samples."""
    labels = images != "alone"
    loaders: Any = {id(part): (labels and loader_of(part, what), files.image_loader(part)) for part in leaves(dataset)}
    classes, ignored = len(dataset.metainfo["classes"]), files.ignored_labels(config, dataset)
    problems: list[str] = []

    def contains(index: int) -> bool:
        contained = False
        try:
            annotations, reader = loaders[id(leaf(dataset, index))]
            info = dataset.get_data_info(index)
            if not labels:
                files.image_size(info, reader)
                return False
            label = files.read_label(info, annotations)
            contained = bool(files.count_labels(info["seg_map_path"], label, classes, ignored)[list(ids)].any())
            if contained or images == "all":
                files.check_sizes(info, reader, label)
        except RequestError as error:
            problems.append(str(error))
        return contained

    contained = files.in_threads(contains, range(len(dataset)), f"Reading labels of {what}")
    if problems:
        listed = list_names(sorted(problems), files.LISTED, "; ", longest=None)
        raise RequestError(f"{len(problems)} of {len(dataset)} {what} cannot be used: {listed}. Fix or remove them")
    return np.flatnonzero(contained).tolist()


def find_copies(test: Any, others: Any, split: str, alike: bool = True) -> tuple[list[int], list[Copies]]:
    """Find the indices of the test samples that are not also in ``others``, the data of the config's ``split``. Report the rest
    (the same file, or a copy; too many are refused) and, if ``alike``, images that look like others, if Pillow reads them."""
    images, other_images = ([data.get_data_info(i)["img_path"] for i in range(len(data))] for data in (test, others))
    loader = f"{split}_dataloader"
    used = {loader: files.same_files(images, other_images)}
    kept, copies = leave_out("the test data", images, images, used, f"give test images that are not in {loader}")
    if alike:
        names = [image for image, keep in zip(images, kept, strict=True) if keep]
        copies += find_alike("the test data", names, files.thumbnails(names), loader, files.thumbnails(other_images))
    return np.flatnonzero(kept).tolist(), copies


def by_teacher(dataset: Any, ids: Sequence[int], teacher: nn.Module, config: Any) -> list[int]:
    """Find the samples in which the original model predicts one of the classes ``ids``, by the test pipeline."""
    data = ((config or {}).get("test_dataloader") or {}).get("dataset") or {}
    while "pipeline" not in data and ("dataset" in data or "datasets" in data):
        data = data["dataset"] if "dataset" in data else data["datasets"][0]
    if "pipeline" not in data:
        raise RequestError("select='teacher' prepares images with the test pipeline, but test_dataloader has none")
    prepare, model = Compose([dict(step) for step in data["pipeline"]]), cast(Any, teacher)
    prepare.transforms = [step for step in prepare.transforms if not isinstance(step, LoadAnnotations)]
    classes = torch.tensor(list(ids), device=next(teacher.parameters()).device)

    def contains(index: int) -> bool:
        info = dataset.get_data_info(index)
        files.image_size(info, files.image_loader(leaf(dataset, index)))
        (sample,) = model.test_step(pseudo_collate([prepare(copy.deepcopy(info))]))
        return bool(torch.isin(sample.pred_sem_seg.data, classes).any())

    with in_eval_mode(teacher), torch.no_grad():
        indices = track(range(len(dataset)), len(dataset), "Original model: predicting")
        return [index for index in indices if contains(index)]


class SegmentationData(ForgetData):
    """Training data of a run: a dataset of MMSegmentation, inside any wrappers."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        if teacher is None:
            return by_label(self.dataset, ids, config)
        return by_teacher(self.dataset, ids, teacher, config)

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        names = []
        for index in indices:
            root = getattr(leaf(self.dataset, index), "data_root", None) or ""
            path = self.dataset.get_data_info(index)["img_path"]
            names.append(os.path.relpath(path, root) if root else path)
        return names

    def fingerprint(self, select: str) -> list[str]:
        lines = []
        for index in range(len(self)):
            info = self.dataset.get_data_info(index)
            # Images as well if labels select: they were checked, and are checked again when they change.
            for path in [info["img_path"], *([] if select == "teacher" else [info.get("seg_map_path", "")])]:
                state = os.stat(path) if os.path.isfile(path) else None
                lines.append(f"{path} {state.st_size} {state.st_mtime_ns}" if state else path)
        return lines

    def without_labels(self) -> None:
        drop_annotations(self.dataset, LoadNoAnnotations())
