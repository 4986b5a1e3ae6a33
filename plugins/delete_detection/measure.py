"""Figures of a detector: average precision by class and, without labels, what became of the original's boxes."""

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation.functional import percent
from delete_tasks.evaluation.metric import Measured, Metric, NotMeasured, Row, share

from .data import Pictures
from .model import SEEN
from .parts import Boxes

FEW = 20  # boxes; a class with fewer is not reported as the worst
SAME, RENAMED = 0.5, 0.6  # IoU of a box that is kept, and of one that is back under another name
NO_TEST = "no test images with annotations were given (--test)"


@dataclass(frozen=True)
class Detected:
    """Boxes of a model by image, and of annotated images ``(AP50, AP, number of boxes)`` of each class by name, in percent."""

    boxes: Sequence[Boxes]
    precision: Mapping[str, tuple[float, float, int]]


def average_precision(
    truth: dict[str, Any], boxes: Sequence[Boxes], names: Sequence[str]
) -> dict[str, tuple[float, float, int]]:
    """Compute COCO's AP50 and AP in percent by class, by pycocotools, of boxes in the order of the annotations' images; only
    classes that these show and that the model has."""
    coco, evaluator = require("pycocotools.coco", "detection"), require("pycocotools.cocoeval", "detection")
    category = {each["name"]: each["id"] for each in truth["categories"]}
    results = []
    for image, each in zip(truth["images"], boxes, strict=True):
        columns = (each[key].tolist() for key in ("boxes", "labels", "scores"))
        for (x, y, right, bottom), label, score in zip(*columns, strict=True):
            if names[label] in category:
                box = {"bbox": [x, y, right - x, bottom - y], "category_id": category[names[label]], "score": score}
                results.append({"image_id": image["id"], **box})
    complete = {"iscrowd": 0, "area": 0.0}
    annotations = [
        {"id": number, **complete, "area": each["bbox"][2] * each["bbox"][3], **each}
        for number, each in enumerate(truth["annotations"], 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = copy.deepcopy({**truth, "annotations": annotations})
        data.createIndex()
        evaluation = evaluator.COCOeval(data, data.loadRes(results) if results else coco.COCO(), "bbox")
        evaluation.params.imgIds, evaluation.params.catIds = sorted(data.getImgIds()), sorted(data.getCatIds())
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 2]  # (T, R, K): thresholds of IoU, recalls, classes
    found = {}
    for number, index in enumerate(evaluation.params.catIds):
        name = data.cats[index]["name"]
        if name in names and (precision[0, :, number] > -1).any():
            half, mean = (100 * float(np.mean(precision[rows, :, number])) for rows in (slice(1), slice(None)))
            found[name] = half, mean, len(data.getAnnIds(catIds=[index]))
    return found


def detected(model: Any, pictures: Pictures, size: Sequence[int], names: Sequence[str], row: str) -> Detected:
    """Detect in all images and measure the boxes."""
    boxes = pictures.detect(model, size, f"{row.replace('_', ' ')}: detecting")
    return Detected(boxes, {} if pictures.truth is None else average_precision(pictures.truth, boxes, names))


def fate(before: Sequence[Boxes], after: Sequence[Boxes], ids: Sequence[int]) -> dict[str, int]:
    """Count what became of the boxes of ``ids`` with a score above :data:`SEEN`: in all, 'kept' (of the same class), 'renamed' (a
    box of another class that was not there before); and of 'others', 'others_kept'."""
    counts = dict.fromkeys(("all", "kept", "renamed", "others", "others_kept"), 0)
    for old, new in zip(map(_seen, before), map(_seen, after), strict=True):
        forgotten = _isin(old["labels"], ids)
        overlap = box_iou(old["boxes"], new["boxes"])
        same = (overlap > SAME) & (old["labels"][:, None] == new["labels"])
        kept = same.any(1)
        there = old["boxes"][~forgotten]
        fresh = ~_isin(new["labels"], ids) & ~(box_iou(new["boxes"], there) > RENAMED).any(1)
        renamed = ((overlap > RENAMED) & fresh).any(1) & ~kept
        values = (forgotten, forgotten & kept, forgotten & renamed, ~forgotten, ~forgotten & kept)
        counts = {name: counts[name] + int(value.sum()) for name, value in zip(counts, values, strict=True)}
    return counts


def _seen(boxes: Boxes) -> Boxes:
    chosen = boxes["scores"] > SEEN
    return {key: value[chosen] for key, value in boxes.items()}


def _isin(labels: Tensor, ids: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(ids), dtype=labels.dtype))


# Metrics --------------------------------------------------------------------------------------------------------------


def _precision(row: Row, forgotten: bool, number: int) -> list[float]:
    chosen = {row.names[i] for i in row.ids}
    data = row.data["test"].precision
    if not data:
        raise NotMeasured(NO_TEST)
    return [values[number] for name, values in data.items() if (name in chosen) == forgotten]


def _mean(forgotten: bool, number: int) -> Any:
    def compute(row: Row) -> Measured:
        values = _precision(row, forgotten, number)
        return Measured(sum(values) / len(values) if values else None, len(row.data["test"].boxes))

    return compute


def _worst(row: Row) -> Measured:
    before, after = ((row.original or {})["test"].precision, row.data["test"].precision)
    others = [name for name in before if name not in {row.names[i] for i in row.ids} and before[name][2] >= FEW]
    drops = {name: before[name][0] - after[name][0] for name in others}
    if not drops:
        raise NotMeasured(f"no other class has {FEW} annotated boxes" if before else NO_TEST)
    name = max(drops, key=lambda each: drops[each])
    return Measured(drops[name], len(row.data["test"].boxes), of_class=name)


def _fate(part: str, whole: str) -> Any:
    def compute(row: Row) -> Measured:
        counts = fate((row.original or {})["test"].boxes, row.data["test"].boxes, row.ids)
        return share(percent(counts[part], counts[whole]), counts[whole])

    return compute


_BOXES = "of the original's boxes"
METRICS = (
    Metric("forget_ap50", "forgotten classes' AP50 on test images", "percent", _mean(True, 0), limit=5.0, of="test images",
           column="forgotten AP50", role="forget", predicts=True, lacking=NO_TEST),
    Metric("others_ap50", "other classes' mean AP50 on test images", "percent", _mean(False, 0), lower_is_better=False,
           of="test images", column="others AP50", role="retain", lacking=NO_TEST),
    Metric("others_ap", "other classes' mean AP on test images", "percent", _mean(False, 1), lower_is_better=False,
           of="test images", column="others AP", detail=True, lacking=NO_TEST),
    Metric("worst_drop", "AP50 lost by the one other class that lost most", "points", _worst, of="test images",
           column="worst drop", detail=True, relative=True),
    Metric("kept", f"forgotten boxes kept, {_BOXES} above {SEEN}", "percent", _fate("kept", "all"), limit=1.0, of="boxes",
           column="kept", relative=True),
    Metric("renamed", f"forgotten boxes back as another class, {_BOXES} above {SEEN}", "percent", _fate("renamed", "all"),
           limit=5.0, of="boxes", column="renamed", relative=True),
    Metric("others_kept", f"other classes' boxes kept, {_BOXES} above {SEEN}", "percent", _fate("others_kept", "others"),
           lower_is_better=False, of="boxes", column="others kept", relative=True),
)  # fmt: skip


def refuse_unknown(truth: dict[str, Any], names: Sequence[str], path: str) -> None:
    """Refuse annotations of which no category is a class of the model."""
    there = [each["name"] for each in truth["categories"]]
    if not set(there) & set(names):
        raise RequestError(
            f"'{path}' annotates {', '.join(there[:3])}, ..., and the model's classes are {', '.join(names[:3])}, ...: no name "
            "is the same; use the same names in both"
        )
