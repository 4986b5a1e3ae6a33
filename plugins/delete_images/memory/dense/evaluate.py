"""Measurement of dense models: IoU by row, from label maps, and changes of the original's predictions."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.display.terminal import track
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import ConfusionState, Evaluation
from delete_tasks.evaluation.functional import confusion_matrix, percent
from delete_tasks.evaluation.metrics import location_ious
from delete_tasks.losses.masks import forgotten_mass, is_forgotten
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.classes import resolve_classes

from ...models.classifier import NO_LABEL, predict_batch
from ...models.outputs import at_size, class_layers_of, resize
from ..model import copy_model, open_model
from ..samples import read_samples
from .samples import MapSamples
from .task import DenseModel

READ_BATCH = 4
FEW = 1000  # locations; a class with fewer is not the worst of any


@dataclass
class Seen:
    """Sums over the locations of samples that are no padding.

    Attributes:
        locations: How many.
        mass: Sum of the probability of the forgotten classes.
        forgotten: How many are predicted as one of them.
        against: int64 ``(C, C)``, the first model's predictions x this one's.
        counts: At labelled locations, by labels and at their size; empty where there are none.
    """

    against: Tensor
    counts: ConfusionState
    locations: int = 0
    mass: float = 0.0
    forgotten: int = 0


def look(
    models: Mapping[str, DenseModel], samples: MapSamples, numbers: Sequence[int], ids: Sequence[int], seed: int
) -> dict[str, Seen]:
    """Run several models over samples, the one to compare with first. Only sums are stored, nothing of a sample.

    Args:
        models: By name, on one device.
        samples: Of which ``numbers`` are read.
        numbers: Of samples.
        ids: The forgotten classes.
        seed: Of what is random in a sample.
    """
    classes = samples.classes
    seen = {
        name: Seen(torch.zeros(classes, classes, dtype=torch.int64), ConfusionState(classes, ids, [NO_LABEL]))
        for name in models
    }
    batches = samples.batches(numbers, READ_BATCH, seed)
    with in_eval_mode(*models.values()):
        for images, labels, valid in track(batches, -(-len(numbers) // READ_BATCH), "Measuring"):
            first: Tensor | None = None
            for name, model in models.items():
                logits = predict_batch(model, images).cpu()
                predicted = logits.argmax(1)
                first = predicted if first is None else first
                counts = torch.ones_like(first, dtype=torch.bool) if valid is None else at_size(valid, first.shape[1:])
                _add(seen[name], logits, predicted, first, counts, ids)
                for number in range(0 if labels is None else len(labels)):
                    one = resize(logits[number : number + 1], labels.shape[1:])[0]
                    seen[name].counts.update(one, labels[number])
    return seen


def _add(seen: Seen, logits: Tensor, predicted: Tensor, first: Tensor, counts: Tensor, ids: Sequence[int]) -> None:
    seen.locations += int(counts.sum())
    seen.mass += float((forgotten_mass(logits, ids) * counts).sum(dtype=torch.float64))
    seen.forgotten += int((is_forgotten(predicted, ids) & counts).sum())
    seen.against += confusion_matrix(first[counts], predicted[counts], logits.shape[1])


def kept(seen: Seen, ids: Sequence[int], names: Sequence[str]) -> dict[str, Any] | None:
    """Measure the locations for which the first model predicts a remaining class: how many there are (``samples``), percent with
    the ``same_prediction``, and the class (of 1,000 locations or more) with the fewest. None where there are none."""
    of = [i for i in range(len(names)) if i not in set(ids)]
    hits, totals = seen.against.diagonal(), seen.against.sum(1)
    if not totals[of].any():
        return None
    shares = {names[i]: percent(hits[i], totals[i]) for i in of if totals[i] >= FEW}
    worst = min(shares, key=lambda name: shares[name] or 0.0) if shares else None
    return {
        "samples": int(totals[of].sum()),
        "same_prediction": percent(hits[of].sum(), totals[of].sum()),
        "worst_class": None if worst is None else {"class": worst, "same_prediction": shares[worst]},
    }


def with_head_of(model: DenseModel, other: DenseModel) -> DenseModel:
    """Copy a model with another's class layers in place of its own."""
    changed = copy.deepcopy(model)
    for name in changed.layers:
        changed.network.get_submodule(name).load_state_dict(other.network.get_submodule(name).state_dict())
    return changed


def rows_of(seen: Mapping[str, Seen], ids: Sequence[int], names: Sequence[str]) -> Evaluation:
    """Make the table's rows: 'original', its cut-off logits as 'logit_cut', and the other models."""
    evaluation = Evaluation(location_ious("test", "images"), ids, names)
    for name, one in seen.items():
        counted, cut, *_ = one.counts.compute()
        evaluation.add(name, {"test": counted})
        if name == "original":
            evaluation.add("logit_cut", {"test": cut})
    return evaluation


def evaluate(
    original: nn.Module,
    erased: nn.Module,
    data: Any,
    classes: Sequence[str | int] | str | int,
    *,
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
) -> dict[str, dict[str, float | None]]:
    """IoU of two dense models on samples with label maps, e.g. of test data.

    Args:
        original: As it was given to :func:`delete_images.memory.erase.erase`; neither model is changed.
        erased: As that returned it.
        data: ``(image, label map)`` samples, as ``erase()`` takes them; 255 and negative labels are void and do not count.
        classes: Names or ids of the forgotten classes.
        class_names: Of all C logits; needed where neither data nor model say them and ``classes`` holds names.
        device: Where to run; the original's own by default.

    Returns:
        Row -> metric -> value. Rows: ``original``; ``logit_cut``, the original with the forgotten logits cut off; ``erased``; and
        ``erased_with_original_head``, the erased model with the original's last layers back in place, where these are found.
        Metrics, in percent: ``forget_iou``, ``others_miou``, ``miou``, and ``others_drop`` (points); None where the data do not
        show it.

    Raises:
        RequestError: No label maps, unknown classes, data that cannot be read.
        UnsupportedModelError: Models without logits ``(N, C, *locations)``.
    """
    samples = read_samples(data, "data")
    opened = open_model(original, samples, class_names, 0, device)
    if not opened.dimensions:
        raise UnsupportedModelError("the model is a classifier, which has no IoU; expected logits (N, C, *locations)")
    ids = resolve_classes(classes, opened.names)
    maps = MapSamples.of(samples, len(opened.names), opened.dimensions)
    if opened.named:
        maps.read_labels_by_name(opened.names)
    try:
        layers = class_layers_of(opened.student, opened.images, len(opened.names))
    except UnsupportedModelError:
        layers = []
    first, then = (
        DenseModel(network, len(opened.names), layers)
        for network in (opened.student, copy_model(erased).to(opened.device))
    )
    models = {"original": first, "erased": then}
    if layers:
        models["erased_with_original_head"] = with_head_of(then, first)
    seen = look(models, maps, range(len(maps)), ids, 0)
    if not seen["original"].counts.compute()[0].samples:
        raise RequestError("the data have no label maps, so nothing can be measured; give (image, label map) samples")
    return values_of(rows_of(seen, ids, opened.names))


def values_of(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Row -> metric -> value."""
    return {row: {name: one.value for name, one in figures.items()} for row, figures in evaluation.rows.items()}
