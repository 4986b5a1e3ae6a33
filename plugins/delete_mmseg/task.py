"""Segmentation task: a location is a pixel."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmseg.models.segmentors import BaseSegmentor, EncoderDecoder
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation.metrics import REPLACED_BY, location_agreement, location_ious, replaced_by, still_predicted
from delete_tasks.fileio.checkpoint import load_once
from delete_tasks.model.loss_point import LossPoint
from delete_tasks.plugins import load_offered
from delete_tasks.report.record.measurement import unpack
from delete_tasks.task import Task, neutral_names, save_state_dict

from .heads import check_heads, class_layers_of, class_logits, classifier, heads_of, main_head, read_head
from .labels import SegmentationData
from .opened import Pictures, open_scenes
from .recipes import RECIPES
from .regions import misplaced


def describe(path: Path, record: Any, hide: bool) -> tuple[str, str, dict[str, Any]]:
    """Describe a checkpoint, see :attr:`delete_tasks.task.Task.hub`; a record with figures knows its model's config."""
    config = {"dataset_meta": (load_once(path).get("meta") or {}).get("dataset_meta")}
    measurement = record and record["measurement"]
    if measurement:
        config["model"] = unpack(measurement["options"]["config"]["model"], path.parent, None)
    return "mmsegmentation", "image-segmentation", {"config.json": config}


class SegmentationTask(Task):
    """Task of MMSegmentation models."""

    name, samples = "segmentation", "images"
    metrics = (
        *location_ious("test", "test images"),
        *location_agreement("test", "images"),
        still_predicted("images of the forget set"),
        misplaced("test", "test images that show them"),
        *(replaced_by(name, "test", "test images that show them") for name in REPLACED_BY),
        *load_offered("metrics.segmentation", "METRICS"),
    )
    recipes = RECIPES

    def handles(self, model: nn.Module) -> bool:
        if not isinstance(model, BaseSegmentor):
            return False
        if not isinstance(model, EncoderDecoder):
            raise UnsupportedModelError(
                f"{type(model).__name__} is not an EncoderDecoder, so it has no per-pixel class logits to distil"
            )
        check_heads(model)
        return True

    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        names = tuple((getattr(dataset, "metainfo", None) or {}).get("classes") or ())
        classes = main_head(model)[1].num_classes
        if len(names) != classes:
            raise RequestError(
                f"the dataset names {len(names)} classes and the model has {classes}; use the dataset that it was trained on"
            )
        return names

    def loss_points(self, model: nn.Module) -> list[LossPoint]:
        classes = main_head(model)[1].num_classes
        return [
            LossPoint(name, head, "loss_by_feat", partial(read_head, name, head, classes))
            for name, head in heads_of(model).items()
        ]

    def training_flags(self, model: nn.Module) -> list[nn.Module]:
        parts = [getattr(model, "backbone", None), getattr(model, "neck", None), *heads_of(model).values()]
        return [m for m in parts if m is not None and "training" in type(m).forward.__code__.co_names]

    def save_erased(self, model: nn.Module, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        # init_model wants names for all classes; a forgotten class is named by its number.
        palette = (getattr(dataset, "metainfo", None) or {}).get("palette") or []
        meta = {"classes": neutral_names(names, ids), "palette": [list(map(int, colour)) for colour in palette]}
        return save_state_dict(model, {"dataset_meta": meta}, path)

    def export_inputs(self, model: Any, samples: Any) -> Iterator[Tensor]:
        for data, _ in Pictures()(samples):  # whole images, however the model is read otherwise
            yield model.module.data_preprocessor(data, False)["inputs"]

    class_logits = staticmethod(class_logits)
    classifier = staticmethod(classifier)
    class_layers = staticmethod(class_layers_of)
    forget_data = staticmethod(SegmentationData)
    open = staticmethod(open_scenes)
    hub = staticmethod(describe)
