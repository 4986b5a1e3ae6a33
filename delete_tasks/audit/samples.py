"""Predictions of opened models for attacks: features, logits and labels, read once for all attacks."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluation.opened import Opened
from ..evaluation.predictions import Predictions, choose, head_is_last, together
from ..evaluation.reader import OpenedModel
from ..fileio.sampling import evenly_spread
from ..model.features import Layer, find_stages
from .attack import Context, Network

EACH, MOST = 20, 500  # locations of a class drawn from a sample, and from all samples
REGIONS = {"train": 300, "test": 500}  # locations of a sample in the proportion of their classes, by split
INPUTS = 200  # inputs of the forgotten classes, and of the others, for attacks that run a model


def read_rows(
    opened: Opened, split: str, stages: Sequence[Layer] = (), regions: bool = False
) -> dict[str, dict[str, Predictions]]:
    """Run the models over a split, and return the predictions by model and ``split``: with the means of the maps of ``stages``,
    or, for samples with many locations, at a fixed random choice of labelled ones. With ``regions``, these also give
    'train_regions' or 'test_regions': locations in the proportion of their classes."""
    parts: dict[str, list[Predictions]] = {}
    drawn, in_proportion = DrawnLocations(), DrawnLocations()
    for row, batch in opened.read(split, None, stages):
        if batch.labels.ndim == 1:
            parts.setdefault(row, []).append(batch)
            continue
        drawn.add(row, batch)
        if regions and split in REGIONS:  # labelled locations, whatever their class
            in_proportion.add(row, batch, lambda draw, of: draw.permutation(np.flatnonzero(of >= 0))[: REGIONS[split]])
    whole = {row: together(batches) for row, batches in parts.items()} | drawn.predictions()
    rows = {row: {split: predictions} for row, predictions in whole.items()}
    for row, batches in in_proportion.parts.items():
        rows[row][f"{split}_regions"] = together(batches)
    return rows


class DrawnLocations:
    """Predictions at a fixed random choice of labelled locations of samples, by model."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Predictions]] = {}
        self.generators: dict[str, np.random.Generator] = {}

    def add(self, row: str, batch: Predictions, choose_from: Callable[..., NDArray[np.int64]] | None = None) -> None:
        """Draw labelled locations of each sample, given its labels ``(locations,)``; by default up to :data:`EACH` of a class."""
        generator = self.generators.setdefault(row, np.random.default_rng(0))
        parts = self.parts.setdefault(row, [])
        for number, labels in enumerate(batch.labels):
            if (labels >= 0).any():
                chosen = (choose_from or _some_of_each)(generator, labels.flatten().numpy())
                parts.append(_at_locations(batch, number, torch.from_numpy(chosen)))

    def predictions(self) -> dict[str, Predictions]:
        """Return at most :data:`MOST` locations of each class, in order, by model."""
        drawn = {row: together(parts) for row, parts in self.parts.items() if parts}
        for row, each in drawn.items():
            chosen = _some_of_each(self.generators[row], each.labels.numpy(), MOST)
            drawn[row] = choose(each, torch.from_numpy(np.sort(chosen)))
        return drawn


def _at_locations(batch: Predictions, number: int, chosen: Tensor) -> Predictions:
    """Read predictions at some locations of a sample, bilinearly, as a model's own logits are enlarged."""
    labels = batch.labels[number]
    height, width = labels.shape
    y, x = (chosen // width).float(), (chosen % width).float()
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], 1)[None, None]

    def read(maps: Tensor) -> Tensor:
        return F.grid_sample(maps[number : number + 1], grid, padding_mode="border", align_corners=False)[0, :, 0].T

    features = None if batch.features is None or batch.features.ndim != 4 else read(batch.features)
    return Predictions(read(batch.logits), features, labels.flatten()[chosen].long())


def _some_of_each(generator: np.random.Generator, labels: NDArray[np.int64], most: int = EACH) -> NDArray[np.int64]:
    """Choose up to ``most`` locations of each class."""
    classes = np.unique(labels[labels >= 0])
    return np.concatenate([generator.permutation(np.flatnonzero(labels == i))[:most] for i in classes])


def evenly(mask: Tensor, most: int) -> Tensor:
    """Choose at most ``most`` of the indices at which a mask ``(N,)`` is True, evenly spaced and ascending."""
    indices = mask.nonzero()[:, 0]
    return indices[evenly_spread(len(indices), most)]


def stages_of(opened: Opened, row: str) -> list[Layer] | None:
    """Find the stages of a model, see :func:`find_stages`; None if its samples have many locations."""
    model, samples = opened.models[row], next(iter(opened.samples.values()))
    inputs, labels = next(iter(model.prepare(samples.subset([0]))))
    if labels.ndim > 1:
        return None
    return find_stages(model.module, inputs.to(model.device), model.last_layer, model.forward)


def read_all(opened: Opened, full: bool) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read every split; return predictions, with 'context' (if ``full``: networks, and regions of maps), and names of stages."""
    models, first, stages = opened.models, next(iter(opened.samples)), stages_of(opened, "original")
    rows: dict[str, dict[str, Any]] = {row: {} for row in models}
    for split in opened.samples:
        for row, read in read_rows(opened, split, stages or [], full).items():
            rows[row] |= read
    forgotten = torch.tensor(list(opened.ids))
    for data in rows.values():  # the auditor has the forget set, also if the training samples show no forgotten class
        if {"train", "forget"} <= data.keys() and not torch.isin(data["train"].labels, forgotten).any():
            forget = choose(data["forget"], torch.isin(data["forget"].labels, forgotten))
            data["train"] = together([data["train"], forget])
    retrained = [dict(rows[row]) for row in models if row.startswith("retrained")]
    heads = {row: last_layer(model, rows[row][first]) for row, model in models.items()}
    run = full and stages is not None
    networks = {row: _network(opened, row, rows[row]) if run else None for row in models}
    for row in models:
        rows[row]["context"] = Context(heads[row], heads["original"], retrained, networks[row])
    return rows, [layer.name for layer in stages or []]


def _network(opened: Opened, row: str, data: Mapping[str, Any]) -> Network | None:
    """Return the model with inputs of the forgotten classes and of others; None without a forget set or held-out samples."""
    if "forget" not in data or "test" not in data:
        return None
    model, nothing = opened.models[row], (torch.zeros(0), torch.zeros(0, dtype=torch.long))
    inputs = {}
    for name, split in (("forget", "forget"), ("test", "test"), ("beside", "train"), ("kept", "test")):
        labels = data[split].labels if split in opened.samples else nothing[1]
        forgotten = torch.isin(labels, torch.tensor(list(opened.ids)))
        chosen = evenly(forgotten if name == split else (labels >= 0) & ~forgotten, INPUTS)
        batches = model.prepare(opened.samples[split].subset(chosen.numpy())) if len(chosen) else [nothing]
        each, labels_of = zip(*batches, strict=True)
        inputs[name] = torch.cat(each), torch.cat(labels_of)
    return Network(model.module, model.forward, inputs)


def last_layer(model: OpenedModel, predictions: Predictions) -> nn.Module | None:
    """Return the last layer on the CPU, if the logits are its output on the features."""
    head = copy.deepcopy(model.last_layer).cpu().float()
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        linear = nn.Linear(head.in_channels, head.out_channels, head.bias is not None)
        linear.load_state_dict({**head.state_dict(), "weight": head.weight.flatten(1)})
        head = linear
    features = predictions.features
    if features is None or getattr(head, "weight", features).shape[0] != predictions.logits.shape[1]:
        return None  # other classes than the original's
    return head if head_is_last(predictions, head) else None
