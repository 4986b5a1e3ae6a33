"""What attacks read: rows of features, logits and labels of each model, made once and shared by all attacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.layers import Layer, find_stages
from ..evaluation.predictions import Predictions, head_is_last
from ..spread import evenly_spread
from ..terminal import track
from .attack import Context, Network
from .linear_probe import FeatureTap

Batches = Iterable[tuple[Tensor, Tensor]]
Forward = Callable[[nn.Module, Tensor], Tensor]
EACH, MOST = 20, 500  # locations of a class that are drawn in a sample, and kept of all samples
INPUTS = 200  # of the forgotten classes, and of the kept ones, for attacks that run a model


@dataclass(frozen=True, eq=False)
class AuditModel:
    """A model of an audit.

    Attributes:
        module: It, in eval mode.
        last_layer: What goes into it are the features.
        forward: ``(module, inputs) -> logits (N, C, *locations)``, in order of the original's classes.
        batches: By the name of the data ('forget', 'train', 'test'): makes batches of inputs and labels ``(N, *locations)``, -1
            where there is none. The same samples in the same order for all models.
        scale: See :class:`delete_tasks.audit.attack.Network`.
    """

    module: nn.Module
    last_layer: nn.Module
    forward: Forward
    batches: Mapping[str, Callable[[], Batches]]
    scale: Tensor = field(default_factory=lambda: torch.ones(()))


@dataclass(frozen=True, eq=False)
class AuditSource:
    """What a task gives an audit, see :meth:`delete_tasks.task.Task.open_audit`.

    Attributes:
        models: 'original', 'erased' and perhaps 'retrained', or 'retrained_1' and so on.
        names: Of all classes, in order of the original's logits.
        ids: The forgotten ones.
        counts: Batches by the name of the data, for a progress bar.
        of: What a sample is, e.g. 'images'.
    """

    models: Mapping[str, AuditModel]
    names: Sequence[str]
    ids: Sequence[int]
    counts: Mapping[str, int]
    of: str = "images"


def read_rows(model: AuditModel, split: str, count: int, stages: Sequence[Layer], title: str) -> Predictions:
    """Run a model over a split.

    Args:
        model: Of the audit.
        split: Name of the data.
        count: Batches, for the bar.
        stages: Whose maps' means are kept, where samples have one location each.
        title: Of the bar.

    Returns:
        A row a sample; where samples have many locations, a row for each of a fixed random choice of labelled ones.
    """
    device = next(model.module.parameters()).device
    named = dict(model.module.named_modules())
    known = [layer for layer in stages if layer.name in named]
    caught: dict[str, Tensor] = {}
    parts: list[Predictions] = []
    many, generator = False, np.random.default_rng(0)

    def keep(layer: Layer, _: nn.Module, __: Any, output: Tensor) -> None:
        caught[layer.name] = layer.as_map(output.detach()).float().flatten(2).mean(2).cpu()

    with ExitStack() as stack, torch.no_grad():
        tap = stack.enter_context(FeatureTap(model.last_layer))
        for layer in known:
            stack.enter_context(named[layer.name].register_forward_hook(partial(keep, layer)))
        for inputs, labels in track(model.batches[split](), count, title):
            logits = model.forward(model.module, inputs.to(device)).float().cpu()
            features = None if tap.features is None else tap.features.float().cpu()
            many = labels.ndim > 1
            if many:
                parts += _at_locations(logits, features, labels, generator)
            else:
                rows = features if features is not None and features.ndim == 2 else None
                parts.append(Predictions(logits, rows, labels, {layer.name: caught[layer.name] for layer in known}))
    return _few_of_each(together(parts), generator) if many else together(parts)


def together(parts: Sequence[Predictions]) -> Predictions:
    """Rows of several one after another; features and stages only where all have them."""
    features = [part.features for part in parts if part.features is not None]
    layers = set.intersection(*(set(part.layers) for part in parts))
    return Predictions(
        torch.cat([part.logits for part in parts]),
        torch.cat(features) if len(features) == len(parts) else None,
        torch.cat([part.labels for part in parts]),
        {name: torch.cat([part.layers[name] for part in parts]) for name in parts[0].layers if name in layers},
    )


def of_classes(found: Predictions, chosen: Tensor) -> Predictions:
    """The rows at ``chosen``: indices, or booleans ``(N,)``."""
    return Predictions(
        found.logits[chosen],
        None if found.features is None else found.features[chosen],
        found.labels[chosen],
        {name: value[chosen] for name, value in found.layers.items()},
    )


def _at_locations(
    logits: Tensor, features: Tensor | None, labels: Tensor, generator: np.random.Generator
) -> list[Predictions]:
    """A row for each of some locations of each sample: up to :data:`EACH` of each class that its labels show.

    Logits and features are read bilinearly there, as a model's own logits are enlarged.
    """
    found = []
    for number, label in enumerate(labels):
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

        rows = None if features is None or features.ndim != 4 else read(features)
        found.append(Predictions(read(logits), rows, torch.from_numpy(flat[chosen]).long()))
    return found


def _few_of_each(found: Predictions, generator: np.random.Generator) -> Predictions:
    """At most :data:`MOST` rows of each class, in their order."""
    labels = found.labels.numpy()
    chosen = [generator.permutation(np.flatnonzero(labels == i))[:MOST] for i in np.unique(labels)]
    return of_classes(found, torch.from_numpy(np.sort(np.concatenate(chosen))))


def evenly(shown: Tensor, most: int) -> Tensor:
    """At most so many of the places that are True in ``(N,)``, evenly spread and ascending."""
    places = shown.nonzero()[:, 0]
    return places[evenly_spread(len(places), most)]


def gather_inputs(model: AuditModel, split: str, places: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs at ascending places ``(n,)`` of a split, and their labels ``(n,)``; nothing is read beyond the last."""
    inputs, labels, begin = [], [], 0
    for batch, own in model.batches[split]():
        here = places[(places >= begin) & (places < begin + len(own))] - begin
        inputs.append(batch[here])
        labels.append(own[here])
        begin += len(own)
        if not len(places) or begin > places[-1]:
            break
    return torch.cat(inputs), torch.cat(labels)


def read_all(source: AuditSource, networks: bool) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Rows of every model and split, with each model's context.

    Args:
        source: Of the task.
        networks: Give attacks the models themselves, too.

    Returns:
        Rows by model and name of the data, beside 'context'; and the names of the stages.
    """
    models = source.models
    original = models["original"]
    first = next(iter(original.batches))
    inputs, labels = next(iter(original.batches[first]()))
    stages = []
    if labels.ndim == 1:
        one = inputs[:1].to(next(original.module.parameters()).device)
        stages = find_stages(original.module, one, original.last_layer, original.forward)
    found: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        found[name] = {
            split: read_rows(model, split, source.counts[split], stages, f"{name.replace('_', ' ')}, {split}")
            for split in model.batches
        }
        _add_forget(found[name], source.ids)
    retrained = [found[name] for name in models if name.startswith("retrained")]
    heads = {name: _head(model, found[name][first]) for name, model in models.items()}
    known: dict[str, Network | None] = {}
    if networks and labels.ndim == 1:
        known = {name: _network(model, found[name], source.ids) for name, model in models.items()}
    rest = {"original_head": heads["original"], "original_network": known.get("original")}
    for name in models:
        found[name]["context"] = Context(
            head=heads[name],
            retrained=[{split: rows for split, rows in data.items() if split != "context"} for data in retrained],
            is_retrained=name.startswith("retrained"),
            network=known.get(name),
            **rest,  # type: ignore[arg-type]
        )
    return found, [layer.name for layer in stages]


def _network(model: AuditModel, rows: Mapping[str, Any], ids: Sequence[int]) -> Network | None:
    """The model with some inputs of the forgotten classes and of others; None without a forget set or held-out samples."""
    if "forget" not in rows or "test" not in rows:
        return None
    given = {}
    for name, split in (("forget", "forget"), ("test", "test"), ("beside", "train"), ("kept", "test")):
        if split not in model.batches:
            given[name] = torch.zeros(0), torch.zeros(0, dtype=torch.long)
            continue
        labels = rows[split].labels
        gone = torch.isin(labels, torch.tensor(list(ids)))
        shown = gone if name == split else (labels >= 0) & ~gone
        given[name] = gather_inputs(model, split, evenly(shown, INPUTS))
    return Network(model.module, model.forward, given, model.scale)


def _head(model: AuditModel, found: Predictions) -> nn.Module | None:
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
        rows["train"] = together([rows["train"], of_classes(rows["forget"], own)])
