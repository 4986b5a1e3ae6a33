"""Figures of attention: the share left on a region of a forgotten class, and the correlation of other classes' maps."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..display.progress import track
from ..errors import RequestError
from ..evaluation.opened import Opened, Sample
from ..evaluation.reader import OpenedModel
from ..fileio.images import check_pictures
from ..model.features import Layer, find_layer
from ..request.classes import resolve_classes
from .gradcam import Map, enlarge, raw_map

LEAST_LEFT = 0.01
SAME = 1e-3  # distance of class weights, over the longest, up to which they are the same
EMPTIED = (
    "The erased model has no class weights of a forgotten class, so its own map is zero whatever its features: the original's "
    "last layer is used on its features."
)


@dataclass
class ComparedSample:
    """Attention of models, by name, on one sample. A: the positive map, summed over the region (without one: everywhere)."""

    sample: Sample  # with the class of the maps
    maps: dict[str, Map] = field(default_factory=dict)  # signed, of the input's size (H, W)
    area: dict[str, float] = field(default_factory=dict)  # A
    # Percent of the positive map that lies in the region; None without one, or with at most LEAST_LEFT of the original's map.
    share: dict[str, float | None] = field(default_factory=dict)
    ratio: dict[str, float | None] = field(default_factory=dict)  # of A and the original's; None if that is zero
    # Pearson's, of the positive map and the original's; None if either is constant.
    correlation: dict[str, float | None] = field(default_factory=dict)
    predicted: dict[str, int] = field(default_factory=dict)  # class; empty for models that predict one at each pixel
    with_original_head: Sequence[str] = ()  # models whose map is that of the original's last layer on their features
    own_map: Map | None = None  # the erased model's, of the class it predicts instead of a forgotten one


def original_heads(models: Mapping[str, OpenedModel]) -> dict[str, OpenedModel]:
    """Put the original's last layer (of the first model) on features of models without class weights; one that has it stays."""
    original, *others = models
    head, restored = models[original].last_layer, {}
    for row in others:
        layer = models[row].last_layer
        if layer is head:
            restored[row] = models[row]
        elif repr(layer) == repr(head) and _emptied(layer) and not _emptied(head):  # of one kind and shape
            module, layer = copy.deepcopy((models[row].module, layer))
            layer.load_state_dict(head.state_dict())
            restored[row] = replace(models[row], module=module, last_layer=layer, forward=models[original].forward)
    return restored


def _emptied(layer: nn.Module) -> bool:
    """Return True if a class has the mean of all class weights, see :func:`delete_tasks.model.head.neutralise_rows`."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2 or len(weight) < 3:
        return False
    rows = weight.detach().flatten(1).float()
    return bool((rows - rows.mean(0)).norm(dim=1).min() <= SAME * rows.norm(dim=1).max())


def compare(
    models: Mapping[str, OpenedModel],
    layer: Layer,
    sample: Sample,
    elementwise: bool = False,
    heads: Mapping[str, OpenedModel] | None = None,
) -> ComparedSample:
    """Compute the maps of one sample by models ('original' first, with 'erased'), and compare them. The class's logits are summed
    over the sample's region; on samples of forgotten classes, those of ``heads`` (see :func:`original_heads`)."""
    heads = heads if heads is not None and sample.removed else {}
    compared = ComparedSample(sample, with_original_head=list(heads))
    first = next(iter(models))
    inputs: Tensor = sample.inputs[None].to(models[first].device)
    small: dict[str, Map] = {}
    whole: dict[str, float] = {}
    for name, model in models.items():
        explained = heads.get(name, model)
        small[name], logits = raw_map(
            explained.module, explained.forward, layer, inputs, sample.class_id, sample.region, elementwise
        )
        if explained is not model:
            with torch.no_grad():
                logits = model.run(inputs)
        compared.maps[name] = enlarge(small[name], sample.picture.shape[:2])
        if logits.ndim == 2:
            compared.predicted[name] = int(logits.argmax(1))
        positive = np.maximum(compared.maps[name], 0)
        compared.area[name] = float(positive.sum() if sample.region is None else positive[sample.region].sum())
        whole[name] = float(positive.sum())
        vanished = whole[name] <= LEAST_LEFT * whole[first]
        compared.share[name] = None if sample.region is None or vanished else 100 * compared.area[name] / whole[name]
    for name in list(models)[1:]:
        compared.ratio[name] = compared.area[name] / compared.area[first] if compared.area[first] > 0 else None
        compared.correlation[name] = correlation(small[first], small[name])
    predicted = compared.predicted.get("erased", sample.class_id)
    if sample.removed and predicted != sample.class_id:
        erased = models["erased"]
        predicted_map, _ = raw_map(erased.module, erased.forward, layer, inputs, predicted, None, elementwise)
        compared.own_map = enlarge(predicted_map, sample.picture.shape[:2])
    return compared


def correlation(first: Map, second: Map) -> float | None:
    """Compute Pearson's correlation of the positive parts of two maps of one shape; None if either is constant."""
    a, b = (np.maximum(values, 0).ravel().astype(np.float64) for values in (first, second))
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _up_to(samples: Iterable[Sample], limit: int, forgotten: Sequence[int] = ()) -> Iterator[Sample]:
    """Take the first ``limit`` forgotten and ``limit`` other samples; classes in ``forgotten`` are always forgotten."""
    counts = {True: 0, False: 0}
    for sample in samples:
        if sample.class_id in forgotten:
            sample = replace(sample, removed=True)
        if counts[sample.removed] < limit:
            counts[sample.removed] += 1
            yield sample
        if min(counts.values()) >= limit:
            return


def spread_samples(comparisons: Sequence[ComparedSample], each: int) -> list[ComparedSample]:
    """Choose up to ``each`` comparisons of forgotten and of other samples, evenly spaced."""
    chosen: list[ComparedSample] = []
    for removed in (True, False):
        kind = [compared for compared in comparisons if compared.sample.removed == removed]
        chosen += kind[:: max(1, len(kind) // each)][:each]
    return chosen


def compare_samples(
    opened: Opened,
    inputs: Sequence[Any],
    class_name: str | int,
    kept: Sequence[str | int] = (),
    limit: int = 60,
    layer: str | None = None,
    forgotten: Sequence[int] = (),
    rows: Sequence[str] | None = None,
) -> tuple[str, list[ComparedSample]]:
    """Compare models on up to ``limit`` samples of a forgotten class and as many of others (``kept``; none: those of the
    samples); return the layer's name and the comparisons in the task's order of samples. ``inputs`` are images or data of the
    task; ``layer`` None is the last map before the classifier; ``forgotten`` are further forgotten classes, not compared as kept;
    ``rows`` are the models' names, the original first (None: all). Raise :class:`RequestError` for an unknown class or layer, a
    missing input, a damaged or too large image, or no sample of the class."""
    check_pictures([word for word in inputs if isinstance(word, str)])
    (first,) = resolve_classes([class_name], opened.names)
    others = resolve_classes(list(kept), opened.names) if kept else []
    models = {row: opened.models[row] for row in rows or opened.models}
    original = models["original"]
    chosen, comparisons = None, []
    heads = original_heads(models)
    if any(heads[row] is not models[row] for row in heads):
        opened.notes = [*opened.notes, EMPTIED]
    samples = opened.look(inputs, first, others) if opened.look is not None else ()
    for sample in track(_up_to(samples, limit, forgotten), 2 * limit, "Attention maps"):
        if chosen is None:
            batch = sample.inputs[None].to(original.device)
            chosen = find_layer(original.module, batch, original.last_layer, original.forward, layer)
        comparisons.append(compare(models, chosen, sample, opened.elementwise, heads))
    if chosen is None:
        raise RequestError(
            f"no sample of {', '.join(map(str, inputs)) or 'the data'} shows '{opened.names[first]}' or a class to compare "
            "with it; give other inputs"
        )
    return chosen.name, comparisons


def summarise(comparisons: Sequence[ComparedSample], names: Sequence[str]) -> dict[str, Any]:
    """Compute medians over samples by model, as JSON values (None: not measured): ``ratio`` and ``share`` before and after over
    ``removed`` samples of forgotten classes, ``correlation`` over the others (``kept``)."""
    removed = [compared for compared in comparisons if compared.sample.removed]
    kept = [compared for compared in comparisons if not compared.sample.removed]
    out: dict[str, Any] = {}
    for name in names[1:]:
        out[name] = {
            "removed": {
                "samples": len(removed),
                "last_layer": "original" if any(name in each.with_original_head for each in removed) else "own",
                "ratio": _median([compared.ratio[name] for compared in removed]),
                "unmeasured": sum(compared.ratio[name] is None for compared in removed),
                "share_before": _median([compared.share[names[0]] for compared in removed]),
                # If attention vanished on most samples, the few others are not representative.
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
    """List the comparisons as JSON values."""
    return [
        {
            "sample": compared.sample.name,
            "class": class_names[compared.sample.class_id],
            "removed": compared.sample.removed,
            "region": compared.sample.region_is,
            "area": {name: float(f"{value:.6g}") for name, value in compared.area.items()},
            "ratio": {name: value and round(value, 4) for name, value in compared.ratio.items()},
            "correlation": {name: value and round(value, 4) for name, value in compared.correlation.items()},
            "predicted": {name: class_names[value] for name, value in compared.predicted.items()},
        }
        for compared in comparisons
    ]


def _median(values: Sequence[float | None], least: float = 1) -> float | None:
    measured = [value for value in values if value is not None]
    return round(float(np.median(measured)), 4) if len(measured) >= max(1, least) else None
