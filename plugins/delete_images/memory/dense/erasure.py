"""Erasure of models whose logits have locations, for erase()."""

import warnings
from functools import partial
from typing import Any

from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation.functional import percent, prediction_shares
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.model.modes import in_eval_mode

from ... import run_config as runs
from ...models.classifier import predict_batch
from ...models.finish import class_outputs_on
from ...models.outputs import class_layers_of
from ...recipes import DENSE_BASE, DENSE_RECIPES
from ..erasure import Erasure
from ..model import OpenModel
from ..samples import PUBLIC, Samples
from .evaluate import READ_BATCH, kept, look, rows_of, values_of, with_head_of
from .samples import MapData, MapSamples, keep_only, showing
from .task import DenseModel, DenseTask

MEASURED = 100  # images; each has many locations


class DenseErasure(Erasure):
    """One request of :func:`delete_images.memory.erase.erase` for a model with logits ``(N, C, *locations)``."""

    measured = MEASURED
    forget: MapSamples
    retain: MapSamples | None

    def __init__(self, opened: OpenModel, forget: Samples, retain: Samples | None, *rest: Any) -> None:
        self.layers: list[str] | None = None
        self.images = opened.images
        if retain is not None and retain.what == PUBLIC:
            raise RequestError(
                "public is for classifiers: a scene's other locations are there already; leave public out"
            )
        maps = partial(MapSamples.of, classes=len(opened.names), dimensions=opened.dimensions)
        super().__init__(opened, maps(forget), None if retain is None else maps(retain), *rest)
        if self.view is not None and self._reader() is not None:
            raise RequestError(
                f"{self._reader()} reads labels, and a view of an image no longer fits its label map; use views='none'"
            )

    def _wrapped(self, network: nn.Module) -> DenseModel:
        if self.layers is None:
            self.layers = self._class_layers(network)
        return DenseModel(network, len(self.names), self.layers)

    def _class_layers(self, network: nn.Module) -> list[str]:
        try:
            with class_outputs_on(DenseTask(), DenseModel(network, len(self.names))):
                return class_layers_of(network, self.images, len(self.names))
        except UnsupportedModelError:
            if self.options.get("keep_row"):
                return []
            raise

    def _dataset(self) -> MapData:
        return MapData(self.forget, self.names, self.ids, self.retain, self.view, self.with_labels)

    def _defaults(self, parameters: int) -> dict[str, Any]:
        return {**DENSE_BASE, **runs.method_class(self.method).defaults(DENSE_RECIPES)}

    def _default_views(self) -> str:
        return "none"

    def _choose_samples(self, opened: OpenModel) -> None:
        model = DenseModel(opened.student, len(self.names))

        def predict(images: Tensor) -> Tensor:
            return predict_batch(model, images).argmax(1).cpu()

        with in_eval_mode(model):
            shows, labelled = showing(self.forget, self.ids, predict, READ_BATCH, self.seed)
            teaches = None if self.retain is None else showing(self.retain, self.ids, predict, READ_BATCH, self.seed)[0]
        self._keep(self.forget, shows, "show", "the model's classes, the label maps")
        if self.retain is not None and teaches is not None:
            self._keep(
                self.retain, ~teaches, "show none of", "the samples: where they show it, the model would keep it"
            )
            if not bool((~teaches).all()):
                warnings.warn(
                    f"retain holds {int(teaches.sum())} images that show {self._wanted()}; they are left out",
                    UserWarning,
                    stacklevel=2,
                )
        self.left_out = {f"without {self._wanted()}": int((~shows).sum())} if not bool(shows.all()) else {}
        if self._reader() is not None and not labelled:
            raise RequestError(
                f"{self._reader()} reads label maps, and forget_images has images without one; give (image, label map) samples, "
                "or use method='DELETE' with masking='all'"
            )
        self.with_labels = self._reader() is not None or (labelled and self.options.get("locations") == "forgotten")

    def _keep(self, samples: MapSamples, keep: Tensor, what: str, check: str) -> None:
        if not bool(keep.any()):
            raise RequestError(
                f"none of the {len(samples)} images in {samples.what} {what} {self._wanted()}, by their label maps or, without, "
                f"by the model's predictions; check {check}"
            )
        keep_only(samples, keep)

    def _wanted(self) -> str:
        return " or ".join(self.names[i] for i in self.ids)

    def _measure(self, model: Any) -> tuple[float, float]:
        """Measure the mean probability of the forgotten classes, and the percentage of locations predicted as one of them."""
        seen = look({"": model}, self.forget, self.numbers, self.ids, self.seed)[""]
        return round(seen.mass / seen.locations, 6), percent(seen.forgotten, seen.locations) or 0.0

    def _finish_figures(self, original: Any, erased: Any) -> dict[str, Any]:
        """``locations`` that were measured; ``predicted_as``, what is predicted where the original predicts a forgotten class,
        percent by class; ``rows``, by row and metric, where there are label maps; ``kept``."""
        models = {"original": original, "erased": erased}
        if self.layers:
            models["erased_with_original_head"] = with_head_of(erased, original)
        seen = look(models, self.forget, self.numbers, self.ids, self.seed)
        on, other = "images", seen["erased"]
        if self.retain is not None:
            numbers = evenly_spread(len(self.retain), self.measured).tolist()
            on, other = (
                "the retain set",
                look(dict(list(models.items())[:2]), self.retain, numbers, self.ids, self.seed)["erased"],
            )
        rows = values_of(rows_of(seen, self.ids, self.names))
        found = kept(other, self.ids, self.names)
        return {
            "locations": seen["erased"].locations,
            "predicted_as": prediction_shares(seen["erased"].against[self.ids].sum(0), self.names),
            "rows": rows if seen["original"].counts.compute()[0].samples else None,
            "kept": None if found is None else {"on": on, **found},
        }
