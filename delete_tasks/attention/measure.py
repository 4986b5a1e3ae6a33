"""Figures beside the pictures: how much of the attention on a region is left, and whether kept classes' maps stayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.opened import Sample
from ..evaluation.reader import OpenedModel
from ..model.features import Layer
from .gradcam import Map, enlarge, raw_map

LEAST_LEFT = 0.01


@dataclass
class ComparedSample:
    """One sample, seen by each model.

    Attributes:
        sample: What was looked at, and for which class.
        maps: Signed maps by model, at the input's size ``(H, W)``.
        area: A by model: the positive part of the map, summed over the region (everywhere if there is none).
        share: Percent of the whole positive map that lies in the region, by model; None without a region, and where no more
            than :data:`LEAST_LEFT` of the original's attention is left at all.
        ratio: A over the original's A; None where the original's is zero.
        correlation: Pearson's, of the positive map and the original's; None where either is constant.
        predicted: The class predicted, by model; empty where the model chooses one at each pixel.
        own_map: The erased model's map of the class it predicts instead of a forgotten one.
    """

    sample: Sample
    maps: dict[str, Map] = field(default_factory=dict)
    area: dict[str, float] = field(default_factory=dict)
    share: dict[str, float | None] = field(default_factory=dict)
    ratio: dict[str, float | None] = field(default_factory=dict)
    correlation: dict[str, float | None] = field(default_factory=dict)
    predicted: dict[str, int] = field(default_factory=dict)
    own_map: Map | None = None


def compare(
    models: Mapping[str, OpenedModel], layer: Layer, sample: Sample, elementwise: bool = False
) -> ComparedSample:
    """Maps of one sample by each model, and the figures between them. ``models`` are by name, 'original' first, 'erased' among
    them. The sample's region also says at which locations the class's logits are summed."""
    compared = ComparedSample(sample)
    first = next(iter(models))
    inputs: Tensor = sample.inputs[None].to(models[first].device)
    small: dict[str, Map] = {}
    whole: dict[str, float] = {}
    for name, model in models.items():
        small[name], logits = raw_map(
            model.module, model.forward, layer, inputs, sample.class_id, sample.region, elementwise
        )
        compared.maps[name] = enlarge(small[name], sample.picture.shape[:2])
        if logits.ndim == 2:
            compared.predicted[name] = int(logits.argmax(1))
        positive = np.maximum(compared.maps[name], 0)
        compared.area[name] = float(positive.sum() if sample.region is None else positive[sample.region].sum())
        whole[name] = float(positive.sum())
        gone = whole[name] <= LEAST_LEFT * next(iter(whole.values()))
        compared.share[name] = None if sample.region is None or gone else 100 * compared.area[name] / whole[name]
    for name in list(models)[1:]:
        compared.ratio[name] = compared.area[name] / compared.area[first] if compared.area[first] > 0 else None
        compared.correlation[name] = correlation(small[first], small[name])
    predicted = compared.predicted.get("erased", sample.class_id)
    if sample.removed and predicted != sample.class_id:
        erased = models["erased"]
        own, _ = raw_map(erased.module, erased.forward, layer, inputs, predicted, None, elementwise)
        compared.own_map = enlarge(own, sample.picture.shape[:2])
    return compared


def correlation(first: Map, second: Map) -> float | None:
    """Pearson's correlation of the positive parts of two maps of one shape; None where either is constant."""
    a, b = (np.maximum(values, 0).ravel().astype(np.float64) for values in (first, second))
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def summarise(comparisons: Sequence[ComparedSample], names: Sequence[str]) -> dict[str, Any]:
    """Medians over samples, by model; JSON values, None is "not measured".

    ``removed`` are comparisons of what was to be forgotten (``ratio``, and ``share`` of the map in the region before and after),
    ``kept`` the others (``correlation``).
    """
    removed = [compared for compared in comparisons if compared.sample.removed]
    kept = [compared for compared in comparisons if not compared.sample.removed]
    out: dict[str, Any] = {}
    for name in names[1:]:
        out[name] = {
            "removed": {
                "samples": len(removed),
                "ratio": _median([compared.ratio[name] for compared in removed]),
                "unmeasured": sum(compared.ratio[name] is None for compared in removed),
                "share_before": _median([compared.share[names[0]] for compared in removed]),
                # Where attention is gone almost everywhere, the few places left would speak for all.
                "share_after": _median([compared.share[name] for compared in removed], least=len(removed) / 2),
            },
            "kept": {
                "samples": len(kept),
                "correlation": _median([compared.correlation[name] for compared in kept]),
                "unmeasured": sum(compared.correlation[name] is None for compared in kept),
            },
        }
    return out


def table(comparisons: Sequence[ComparedSample], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """One JSON row for each comparison."""
    return [
        {
            "sample": compared.sample.name,
            "class": class_names[compared.sample.class_id],
            "removed": compared.sample.removed,
            "region": compared.sample.region_is,
            "area": {name: float(f"{value:.6g}") for name, value in compared.area.items()},
            "ratio": {name: _rounded(value) for name, value in compared.ratio.items()},
            "correlation": {name: _rounded(value) for name, value in compared.correlation.items()},
            "predicted": {name: class_names[value] for name, value in compared.predicted.items()},
        }
        for compared in comparisons
    ]


def _median(values: Sequence[float | None], least: float = 1) -> float | None:
    known: NDArray[np.float64] = np.array([value for value in values if value is not None], dtype=np.float64)
    return round(float(np.median(known)), 4) if known.size >= max(1, least) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
