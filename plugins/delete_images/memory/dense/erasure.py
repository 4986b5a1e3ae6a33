"""Erasure of models whose logits have locations, for erase()."""

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation.functional import percent, prediction_shares
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.model.modes import in_eval_mode

from ... import run_config as runs
from ...metrics import kept_of
from ...models.finish import class_outputs_on
from ...models.outputs import class_layers_of
from ...recipes import DENSE_BASE, DENSE_RECIPES
from ..erasure import Erasure
from ..model import OpenModel
from ..samples import Samples
from .evaluate import FEW, count_locations, iou_rows, models_by_row
from .task import DenseModel, DenseTask, MapData, MapSamples, contain_classes


class DenseErasure(Erasure):
    """Checked request of :func:`delete_images.memory.erase.erase` for a model with logits ``(N, C, *locations)``."""

    measured = 100  # images; each has many locations
    default_views = "none"
    forget: MapSamples
    retain: MapSamples | None

    def __init__(self, opened: OpenModel, forget: Samples, retain: Samples | None, *rest: Any) -> None:
        self.layers: list[str] | None = None
        self.images = opened.images
        if retain is not None and retain.public:
            raise RequestError("public is for classifiers: images have locations of other classes; leave public out")
        if rest[-1].get("activation") == "sigmoid":
            why = "activation='sigmoid' is for one place a sample, and this model has many"
            raise RequestError(f"{why}; for a detector use delete_tasks.erase_detector")
        maps = partial(MapSamples.of, classes=len(opened.names), dimensions=opened.dimensions)
        super().__init__(opened, maps(forget), None if retain is None else maps(retain), *rest)
        if self.view is not None and self._label_reader() is not None:
            raise RequestError(f"{self._label_reader()} reads labels, and views fit no label map; use views='none'")

    def _wrapped(self, network: nn.Module) -> DenseModel:
        if self.layers is None:
            try:
                with class_outputs_on(DenseTask(), DenseModel(network, len(self.names))):
                    self.layers = class_layers_of(network, self.images, len(self.names))
            except UnsupportedModelError:
                if not self.options.get("keep_row"):
                    raise
                self.layers = []
        return DenseModel(network, len(self.names), self.layers)

    def _dataset(self) -> MapData:
        labels = torch.full((len(self.forget),), self.ids[0])
        data = MapData(self.forget, labels, self.names, self.ids, self.retain, self.view)
        data.with_labels = self.with_labels
        return data

    def _defaults(self, steps: int | None) -> dict[str, Any]:
        return {**DENSE_BASE, **runs.method_class(self.method).defaults(DENSE_RECIPES)}

    def _choose_samples(self, opened: OpenModel) -> None:
        model = DenseModel(opened.student, len(self.names))
        mark = partial(contain_classes, ids=self.ids, model=model, seed=self.seed)
        classes = " or ".join(self.names[i] for i in self.ids)
        with in_eval_mode(model):
            matches, labelled = mark(self.forget)
            excluded = None if self.retain is None else mark(self.retain)[0]
        self._select(self.forget, matches, f"show {classes}", "the model's classes and the label maps")
        if self.retain is not None and excluded is not None:
            check = "the samples: they would restore the classes"
            self._select(self.retain, ~excluded, f"show none of {classes}", check)
            if excluded.any():
                text = f"retain holds {int(excluded.sum())} images that show {classes}; they are left out"
                warnings.warn(text, UserWarning, stacklevel=2)
        self.left_out = {} if matches.all() else {f"without {classes}": int((~matches).sum())}
        if self._label_reader() is not None and not labelled:
            raise RequestError(
                f"{self._label_reader()} reads label maps, and forget_images has images without one; give (image, label map) "
                "samples, or use method='DELETE' with masking='all'"
            )
        of_forgotten = self.options.get("locations") == "forgotten"
        self.with_labels = self._label_reader() is not None or (labelled and of_forgotten)

    @staticmethod
    def _select(samples: MapSamples, mask: Tensor, condition: str, check: str) -> None:
        if not mask.any():
            raise RequestError(
                f"none of the {len(samples)} images in {samples.argument} {condition}, by their label maps or, without, "
                f"by the model's predictions; check {check}"
            )
        samples.select(mask)

    def _measure(self, model: Any) -> tuple[float, float]:
        """Measure the mean probability of the forgotten classes, and the percentage of locations predicted as one of them."""
        counts = count_locations({"": model}, self.forget, self.numbers, self.ids, self.seed)[""]
        predicted = counts.predictions.sum(0)
        return round(counts.mass / int(predicted.sum()), 6), percent(predicted[self.ids].sum(), predicted.sum()) or 0.0

    def _comparison(self, original: Any, erased: Any, runner: Any) -> dict[str, Any]:
        """Compare both models: ``locations``, their number; ``predicted_as``, the erased model's predictions where the original
        predicts a forgotten class, percent by class; ``rows``, IoU by model and metric (None: no label maps); ``kept``."""
        models = models_by_row(original, erased)
        counts = count_locations(models, self.forget, self.numbers, self.ids, self.seed)
        on, others = "images", counts["erased"]
        if self.retain is not None:
            numbers = evenly_spread(len(self.retain), self.measured).tolist()
            models.pop("erased_with_original_head", None)
            on, others = "the retain set", count_locations(models, self.retain, numbers, self.ids, self.seed)["erased"]
        predictions = counts["erased"].predictions
        kept = kept_of(others.predictions, self.ids, self.names, FEW)
        return {
            "locations": int(predictions.sum()),
            "predicted_as": prediction_shares(predictions[self.ids].sum(0), self.names),
            "rows": iou_rows(counts, self.ids, self.names),
            "kept": None if kept is None else {"on": on, **kept},
        }
