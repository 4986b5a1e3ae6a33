"""Measurement of dense models: IoU by model, from label maps, and changes of the original's predictions."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.display.progress import track
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import ConfusionState, Evaluation
from delete_tasks.evaluation.functional import confusion_matrix
from delete_tasks.evaluation.metrics import location_ious
from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.classes import resolve_classes

from ...models.classifier import NO_LABEL, predict_batch
from ...models.outputs import at_size, class_layers_of, resize
from ..model import copy_model, open_model
from ..samples import read_samples
from .task import READ_BATCH, DenseModel, MapSamples

FEW = 1000  # locations; a class with fewer is not reported as the worst


@dataclass
class PredictionCounts:
    """Counts over the locations of samples, without padding."""

    predictions: Tensor  # int64 (C, C): the first model's predictions x this one's
    labelled: ConfusionState  # at labelled locations, at the size of the label maps; empty without any
    mass: float = 0.0  # sum of the probabilities of the forgotten classes


def count_locations(
    models: Mapping[str, DenseModel], samples: MapSamples, numbers: Sequence[int], ids: Sequence[int], seed: int
) -> dict[str, PredictionCounts]:
    """Count predictions of models on one device by name, over the samples ``numbers``; only sums are kept in memory."""
    classes = samples.classes
    zeros = torch.zeros(classes, classes, dtype=torch.int64)
    counts = {name: PredictionCounts(zeros.clone(), ConfusionState(classes, ids, [NO_LABEL])) for name in models}
    batches = samples.batches(numbers, READ_BATCH, seed)
    with in_eval_mode(*models.values()):
        for images, labels, padding in track(batches, -(-len(numbers) // READ_BATCH), "Measuring"):
            first: Tensor | None = None
            for name, model in models.items():
                logits = predict_batch(model, images).cpu()
                predicted = logits.argmax(1)
                first = predicted if first is None else first
                everywhere = torch.ones_like(first, dtype=torch.bool)
                valid = everywhere if padding is None else at_size(padding, first.shape[1:])
                counts[name].mass += float((forgotten_mass(logits, ids) * valid).sum(dtype=torch.float64))
                counts[name].predictions += confusion_matrix(first[valid], predicted[valid], classes)
                for number, label_map in enumerate([] if labels is None else labels):
                    counts[name].labelled.update(resize(logits[number : number + 1], label_map.shape)[0], label_map)
    return counts


def models_by_row(original: DenseModel, erased: DenseModel) -> dict[str, DenseModel]:
    """Name both models and, if the class layers are known, a copy of the erased model with the original's."""
    models = {"original": original, "erased": erased}
    if erased.layers:
        models["erased_with_original_head"] = restored = copy.deepcopy(erased)
        for name in erased.layers:
            restored.network.get_submodule(name).load_state_dict(original.network.get_submodule(name).state_dict())
    return models


def iou_rows(
    counts: Mapping[str, PredictionCounts], ids: Sequence[int], names: Sequence[str]
) -> dict[str, dict[str, float | None]] | None:
    """Compute metrics by model, and of the original with its logits cut off ('logit_cut'); None without label maps."""
    evaluation = Evaluation(location_ious("test", "images"), ids, names)
    for name, model_counts in counts.items():
        confusion, cut = model_counts.labelled.compute()
        if not confusion.samples:
            return None
        evaluation.add(name, {"test": confusion})
        if name == "original":
            evaluation.add("logit_cut", {"test": cut})
    return {row: {name: one.value for name, one in figures.items()} for row, figures in evaluation.rows.items()}


def evaluate(
    original: nn.Module,
    erased: nn.Module,
    data: Any,
    classes: Sequence[str | int] | str | int,
    *,
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
) -> dict[str, dict[str, float | None]]:
    """Measure the IoU of two dense models on samples with label maps, e.g. of test data.

    Args:
        original: Model given to :func:`delete_images.memory.erase.erase`; neither model is changed.
        erased: Model that it returned.
        data: ``(image, label map)`` samples, as ``erase()`` takes them; 255 and negative labels are void and do not count.
        classes: Names or ids of the forgotten classes.
        class_names: Names of all C logits; needed if neither data nor model have them and ``classes`` holds names.
        device: Device to run on; the original's own by default.

    Returns:
        Row -> metric -> value. Rows: ``original``; ``logit_cut``, the original with the forgotten logits cut off; ``erased``; and
        ``erased_with_original_head``, the erased model with the original's class layers, if these are found.
        Metrics, in percent: ``forget_iou``, ``others_miou``, ``miou``, and ``others_drop`` (points); None if the data do not
        show the classes.

    Raises:
        RequestError: No label maps, unknown classes, unreadable data.
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
    networks = (opened.student, copy_model(erased).to(opened.device))
    models = models_by_row(*(DenseModel(network, len(opened.names), layers) for network in networks))
    rows = iou_rows(count_locations(models, maps, range(len(maps)), ids, 0), ids, opened.names)
    if rows is None:
        raise RequestError("the data have no label maps, so nothing can be measured; give (image, label map) samples")
    return rows
