"""What attacks read of opened models: rows of features, logits and labels, made once and shared by all attacks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evaluation.opened import Opened
from ..evaluation.predictions import Predictions, choose, head_is_last, together
from ..evaluation.reader import Batch, OpenedModel
from ..fileio.sampling import evenly_spread
from ..model.features import Layer, find_stages
from .attack import Context, Network

EACH, MOST = 20, 500  # locations of a class that are drawn in a sample, and kept of all samples
INPUTS = 200  # of the forgotten classes, and of the kept ones, for attacks that run a model


def read_rows(
    opened: Opened, split: str, stages: Sequence[Layer] = (), rows: Sequence[str] | None = None
) -> dict[str, Predictions]:
    """Run models over a split.

    Args:
        opened: The models and the split.
        split: Name of the data.
        stages: Layers whose maps' means are kept, where samples have one location each.
        rows: Of the models; None takes all.

    Returns:
        By row, predictions for each sample; where samples have many locations, for a fixed random choice of labelled ones.
    """
    parts: dict[str, list[Predictions]] = {}
    generators: dict[str, np.random.Generator] = {}
    many = False
    for row, batch in opened.read(split, rows, stages):
        many = batch.labels.ndim > 1
        own = parts.setdefault(row, [])
        if many:
            own += _at_locations(batch, generators.setdefault(row, np.random.default_rng(0)))
        else:
            own.append(batch.predictions())
    whole = {row: together(own) for row, own in parts.items()}
    return {row: _few_of_each(one, generators[row]) for row, one in whole.items()} if many else whole


def _at_locations(batch: Batch, generator: np.random.Generator) -> list[Predictions]:
    """Predictions at some locations of each sample: up to :data:`EACH` of each class that its labels show.

    Logits and features are read bilinearly there, as a model's own logits are enlarged.
    """
    found = []
    for number, label in enumerate(batch.labels):
        flat = label.flatten().numpy()
        places = [np.flatnonzero(flat == i) for i in np.unique(flat[flat >= 0])]
        if not places:
            continue
        chosen = np.concatenate([generator.permutation(own)[:EACH] for own in places])
        height, width = label.shape
        y, x = (torch.from_numpy(part).float() for part in np.divmod(chosen, width))
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], 1)[None, None]

        def read(maps: Tensor, at: int = number, where: Tensor = grid) -> Tensor:
            return F.grid_sample(maps[at : at + 1], where, padding_mode="border", align_corners=False)[0, :, 0].T

        features = None if batch.features is None or batch.features.ndim != 4 else read(batch.features)
        found.append(Predictions(read(batch.logits), features, torch.from_numpy(flat[chosen]).long()))
    return found


def _few_of_each(found: Predictions, generator: np.random.Generator) -> Predictions:
    """At most :data:`MOST` rows of each class, in their order."""
    labels = found.labels.numpy()
    chosen = [generator.permutation(np.flatnonzero(labels == i))[:MOST] for i in np.unique(labels)]
    return choose(found, torch.from_numpy(np.sort(np.concatenate(chosen))))


def evenly(shown: Tensor, most: int) -> Tensor:
    """At most so many of the places that are True in ``(N,)``, evenly spread and ascending."""
    places = shown.nonzero()[:, 0]
    return places[evenly_spread(len(places), most)]


def gather_inputs(opened: Opened, model: OpenedModel, split: str, places: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs at ascending places ``(n,)`` of a split, and their labels ``(n,)``; nothing else is read."""
    samples = opened.samples[split].subset(places.numpy())
    batches = list(model.prepare(samples)) if len(places) else [(torch.zeros(0), torch.zeros(0, dtype=torch.long))]
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([labels for _, labels in batches])


def read_all(opened: Opened, networks: bool) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read every model and split, with each model's context.

    Args:
        opened: By the task.
        networks: Give attacks the models themselves as well.

    Returns:
        Predictions by row and name of the data, beside 'context'; and the names of the stages.
    """
    models, original = opened.models, opened.models["original"]
    first = next(iter(opened.samples))
    inputs, labels = next(iter(original.prepare(opened.samples[first].subset([0]))))
    stages = []
    if labels.ndim == 1:
        stages = find_stages(original.module, inputs.to(original.device), original.last_layer, original.forward)
    found: dict[str, dict[str, Any]] = {row: {} for row in models}
    for split in opened.samples:
        for row, one in read_rows(opened, split, stages).items():
            found[row][split] = one
    for data in found.values():
        _add_forget(data, opened.ids)
    retrained = [found[row] for row in models if row.startswith("retrained")]
    heads = {row: _head(model, found[row][first]) for row, model in models.items()}
    known: dict[str, Network | None] = {}
    if networks and labels.ndim == 1:
        known = {row: _network(opened, row, found[row]) for row in models}
    rest = {"original_head": heads["original"], "original_network": known.get("original")}
    for row in models:
        found[row]["context"] = Context(
            head=heads[row],
            retrained=[{split: one for split, one in data.items() if split != "context"} for data in retrained],
            is_retrained=row.startswith("retrained"),
            network=known.get(row),
            **rest,  # type: ignore[arg-type]
        )
    return found, [layer.name for layer in stages]


def _network(opened: Opened, row: str, data: Mapping[str, Any]) -> Network | None:
    """The model with some inputs of the forgotten classes and of others; None without a forget set or held-out samples."""
    if "forget" not in data or "test" not in data:
        return None
    model, given = opened.models[row], {}
    for name, split in (("forget", "forget"), ("test", "test"), ("beside", "train"), ("kept", "test")):
        if split not in opened.samples:
            given[name] = torch.zeros(0), torch.zeros(0, dtype=torch.long)
            continue
        labels = data[split].labels
        gone = torch.isin(labels, torch.tensor(list(opened.ids)))
        shown = gone if name == split else (labels >= 0) & ~gone
        given[name] = gather_inputs(opened, model, split, evenly(shown, INPUTS))
    return Network(model.module, model.forward, given, model.scale)


def _head(model: OpenedModel, found: Predictions) -> nn.Module | None:
    """The last layer on the CPU, where the logits are just what it makes of the features."""
    head = copy.deepcopy(model.last_layer).cpu().float()
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        rows = nn.Linear(head.in_channels, head.out_channels, head.bias is not None)
        rows.load_state_dict(
            {name: value.flatten(1) if value.ndim > 1 else value for name, value in head.state_dict().items()}
        )
        head = rows
    if found.features is None or getattr(head, "weight", found.features).shape[0] != found.logits.shape[1]:
        return None  # of other classes than the original's
    return head if head_is_last(found, head) else None


def _add_forget(rows: dict[str, Predictions], ids: Sequence[int]) -> None:
    """Give an attacker the forget set where the training samples show no forgotten class: the auditor has it."""
    if "train" not in rows or "forget" not in rows:
        return
    gone = torch.tensor(list(ids))
    if not torch.isin(rows["train"].labels, gone).any():
        own = torch.isin(rows["forget"].labels, gone)
        rows["train"] = together([rows["train"], choose(rows["forget"], own)])
