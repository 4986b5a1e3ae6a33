"""Dataset of a run that forgets people: photos, framed once before the run begins."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from delete_images.data.datasets import ImageDataset, collate_images
from delete_images.data.opening import ImageData
from delete_images.data.transforms import eval_transform, train_transform
from delete_images.models.model_file import ModelSpec, as_spec
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.forget_data import Selection
from delete_tasks.task import Run

from .backbones import backbone_defaults
from .checks import NO_PROJECTION, refuse_removed
from .photos import Framing, Templates, open_photos
from .projection import projected_directions


def framing_of(spec: ModelSpec, **options: Any) -> Framing:
    """Make the framing for a model; ``options`` as of :class:`delete_faces.photos.Framing`."""
    default = backbone_defaults(spec.arguments.get("backbone", "")).framing
    return Framing(spec.preprocessing, spec.extra.get("framing", default), **options)


def framing_for(spec: ModelSpec, options: Mapping[str, Any], device: str) -> Framing:
    """Make the framing for a model from a command's options."""
    flags = {name: options[name] for name in ("aligned", "largest_face")}
    return framing_of(spec, **flags, device=device, processes=options.get("processes"))


@DATASETS.register_module()
class FaceDataset(ImageDataset):
    """Faces of people for a given model, with items and batches of :class:`delete_images.data.datasets.ImageDataset`.

    Args:
        data: Photos, e.g. ``'photos?class=Colin_Powell'``; or framed faces; or stored templates in their place, which no step
            reads, with one sample for each person without any.
        spec: The model's description; labels are indices into its people.
        augment: Mirror half of the faces. (A face network sees faces in one frame, so nothing is cropped.)
        aligned, largest_face: See :class:`delete_faces.photos.Framing`.
        split: Split of folders that have several.
        retain: Photos or templates of people who stay, for :class:`delete_faces.projection.PersonProjection`, which must be
            among the run's custom_hooks. No step reads them; their framed faces are the attribute ``kept``.
    """

    def __init__(
        self,
        data: str | ImageData | Templates,
        spec: Any,
        augment: bool = True,
        aligned: bool = False,
        largest_face: bool = False,
        split: str = "train",
        retain: str | ImageData | Templates | None = None,
    ) -> None:
        self.spec = as_spec(spec)
        self.class_names = self.spec.classes
        framing = framing_of(self.spec, aligned=aligned, largest_face=largest_face)
        if isinstance(data, str):
            data = open_photos(data, split, framing, self.class_names).data
        if isinstance(retain, str):
            retain = open_photos(retain, split, framing, title="Finding faces of kept people").data
        self.data, self.kept, self.retain = data, retain, None  # type: ignore[assignment]
        self.labels, self.names = data.labels.copy(), data.names
        if isinstance(data, Templates):
            self.checked = False
            self.labels = np.concatenate([self.labels, np.array(data.lacking, np.int64)])
            self.names = [*self.names, *(f"{self.class_names[i]}: class weights" for i in data.lacking)]
        self.transform = train_transform(self.spec, crop=False) if augment else eval_transform(self.spec)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        stored = isinstance(self.data, Templates)  # no step reads these; a resumed run compares their names
        return [{"inputs": self.names[index]}] if stored else super().__getitem__(index)

    collate = staticmethod(collate_images)
    retain_each = 0

    def retain_samples(self) -> list[str] | None:
        return super().retain_samples() if self.kept is None else list(self.kept.names)

    def check_run(self, runner: Run, selection: Selection) -> None:
        if self.kept is not None and not projected_directions(runner):
            raise RequestError(NO_PROJECTION)
        if isinstance(self.kept, ImageData):
            refuse_removed(self.kept, [selection.class_names[i] for i in selection.forget_ids], "the retain set")
