"""Classifiers and images as ``delete-tasks audit`` attacks them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_tasks.audit.samples import AuditModel, AuditSource
from delete_tasks.compute import choose_device
from delete_tasks.errors import RequestError
from delete_tasks.masking import resolve_classes

from .architectures import classifier_of
from .attention_samples import open_network
from .classifier import class_outputs
from .data import ImageData, check_overlap, open_data
from .spec import ModelSpec
from .transforms import TransformedData, eval_transform

BATCH = 100


Networks = dict[str, tuple[nn.Module, ModelSpec]]
ERASED = ("erased", "head_only")  # of as many classes, they may call the forgotten ones by neutral names


def open_audit(paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any]) -> AuditSource | None:
    """Model folders and images, see :meth:`delete_tasks.task.Task.open_audit`; None where the original is no model folder.

    Raises:
        RequestError: A model or data that cannot be opened or run together, or classes that nobody knows.
    """
    networks = open_networks(paths, options)
    if networks is None:
        return None
    names = networks["original"][1].classes
    images = {split: open_data(text, "test" if split == "test" else "train", names) for split, text in data.items()}
    ids = forgotten_ids(options.get("classes") or (), images["forget"], names, data["forget"])
    return make_source(networks, images, ids, paths, "images")


def open_networks(paths: Mapping[str, str], options: Mapping[str, Any]) -> Networks | None:
    """Networks and descriptions by name; None where the original is no model folder.

    Raises:
        RequestError: Another is none.
    """
    networks: Networks = {}
    for name, path in paths.items():
        opened = open_network(path, options)
        if opened is None:
            if name == "original":
                return None
            raise RequestError(f"the {name} model '{path}' is no model folder (model.json and weights.safetensors)")
        networks[name] = opened
    return networks


def make_source(
    networks: Networks, images: Mapping[str, ImageData], ids: Sequence[int], paths: Mapping[str, str], of: str
) -> AuditSource:
    """Networks and images as attacks take them; a few images are run through each.

    Args:
        networks: See :func:`open_networks`.
        images: By the name of the data, labels in order of the original's classes.
        ids: The forgotten classes.
        paths: Of the networks, for messages.
        of: What a sample is.

    Raises:
        RequestError: They do not fit together, a network fails, or held-out images are among the others.
    """
    names = networks["original"][1].classes
    _check_classes(networks, ids, names, paths)
    if "test" in images:
        check_overlap(
            [images["test"]], [own for split, own in images.items() if split != "test"], "in --forget or --data"
        )
    device = torch.device(choose_device())
    models = {}
    for name, (network, spec) in networks.items():
        order = spec.classes if name in ERASED and len(spec.classes) == len(names) else names
        models[name] = audit_model(network.to(device), spec, order, images)
    for name, model in models.items():
        _try_out(model, images, name)
    counts = {split: math.ceil(len(own) / BATCH) for split, own in images.items()}
    return AuditSource(models, names, ids, counts, of)


def forgotten_ids(wanted: Sequence[Any], forget: ImageData, names: Sequence[str], text: str) -> list[int]:
    """Ids of the classes that are named, or that the forget set shows.

    Raises:
        RequestError: None is named and no image has a label, or the forget set shows all classes.
    """
    if wanted:
        return resolve_classes(list(wanted), names)
    shown = np.unique(forget.labels[forget.labels >= 0]).tolist()
    if not shown or len(shown) == len(names):
        what = "no labels" if not shown else "all classes"
        raise RequestError(f"--forget '{text}' shows {what}, so it does not say what was forgotten; give --classes")
    return [int(i) for i in shown]


def audit_model(
    network: nn.Module, spec: ModelSpec, names: Sequence[str], images: Mapping[str, ImageData]
) -> AuditModel:
    """A network as attacks take it; ``names`` is the order of the logits, and a class that it lacks gets minus infinity."""
    own = list(spec.classes)
    columns = [own.index(name) if name in own else -1 for name in names]
    in_order = columns == list(range(len(own)))
    processing = spec.preprocessing
    low, high = processing.input_range
    return AuditModel(
        network.eval(),
        classifier_of(network, len(own)).module,
        partial(_forward, len(own), None if in_order else columns),
        {split: partial(batches, spec, data) for split, data in images.items()},
        (high - low) / torch.tensor(processing.std)[:, None, None],
    )


def _forward(classes: int, columns: Sequence[int] | None, network: nn.Module, inputs: Tensor) -> Tensor:
    logits = class_outputs(network(inputs), classes)[0]
    if columns is None:
        return logits
    lacking = torch.full_like(logits[:, :1], -torch.inf)
    return torch.cat([lacking if i < 0 else logits[:, i : i + 1] for i in columns], 1)


def batches(spec: ModelSpec, data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as the network takes them, and their labels."""
    with torch.random.fork_rng():  # a data loader draws a number
        yield from DataLoader(TransformedData(data, eval_transform(spec)), batch_size=BATCH)


def _check_classes(networks: Networks, ids: Sequence[int], names: Sequence[str], paths: Mapping[str, str]) -> None:
    for name, (_, spec) in networks.items():
        if name in ERASED and len(spec.classes) == len(names):
            continue
        lacking = [one for i, one in enumerate(names) if i not in ids and one not in spec.classes]
        if lacking:
            raise RequestError(
                f"the {name} model '{paths[name]}' has no class {', '.join(lacking[:5])}, which the original keeps; give a "
                "model of the same classes"
            )


def _try_out(model: AuditModel, images: Mapping[str, ImageData], name: str) -> None:
    for split in images:
        inputs, _ = next(iter(model.batches[split]()))
        device = next(model.module.parameters()).device
        try:
            with torch.no_grad():
                model.forward(model.module, inputs[:2].to(device))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise RequestError(f"the {name} model fails on the images: {str(error).splitlines()[0]}") from error
