"""Classifiers and images as ``delete-tasks attention`` and the erasure record look at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from delete_tasks.checkpoint import load_weights
from delete_tasks.compute import choose_device
from delete_tasks.errors import RequestError
from delete_tasks.image_files import SUFFIXES, read_image, readable_name
from delete_tasks.task import OpenModels, Sample

from .classifier import ImageClassifier
from .data import NO_LABEL, ImageData, open_data
from .model_file import SPEC_NAME, WEIGHTS_NAME, as_spec, build_model, load_model
from .spec import ModelSpec
from .transforms import eval_transform


def open_network(path: str, options: Mapping[str, Any]) -> tuple[nn.Module, ModelSpec] | None:
    """A network in eval mode from a model folder, from the weights file in one, or, where ``options['spec']`` describes the
    model, from any weights file; None from anything else.
    """
    folder = Path(path).parent if Path(path).name == WEIGHTS_NAME else Path(path)
    if (folder / SPEC_NAME).is_file():
        return load_model(folder, bool(options.get("allow_import")))
    if options.get("spec") is None or not Path(path).is_file():
        return None
    spec = as_spec(options["spec"])
    network = build_model(spec, bool(options.get("allow_import"))).float()
    load_weights(network, path)
    return network.eval(), spec


def open_classifiers(paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None:
    """Model folders as models; None where the original is no model folder.

    Raises:
        RequestError: Another number of classes or another input size than the original's.
    """
    first = open_network(paths["original"], options)
    if first is None:
        return None
    models: dict[str, Any] = {}
    specs: dict[str, ModelSpec] = {}
    for name, path in paths.items():
        opened = first if name == "original" else open_network(path, options)
        if opened is None:
            raise RequestError(f"the {name} model '{path}' is no model folder (model.json and weights.safetensors)")
        network, specs[name] = opened
        models[name] = ImageClassifier(network.to(choose_device()), num_classes=len(specs[name].classes))
        models[name].eval()
    own = first[1]
    for name, spec in specs.items():
        if len(spec.classes) != len(own.classes) or spec.preprocessing.size != own.preprocessing.size:
            raise RequestError(
                f"the {name} model '{paths[name]}' has {len(spec.classes)} classes and input {spec.preprocessing.size}, the "
                f"original {len(own.classes)} and {own.preprocessing.size}; look at models of one shape together"
            )
    return OpenModels(models, own.classes, context=own)


def open_inputs(inputs: Sequence[str], classes: Sequence[str]) -> Iterator[ImageData]:
    """Data strings (their test part where they have one) and single images, which have no label.

    Raises:
        RequestError: Nothing is given, or it cannot be opened.
    """
    if not inputs:
        raise RequestError("no images: give data such as 'cifar10?split=test&limit=200', a folder, or image files")
    for word in inputs:
        if Path(word).is_file() and Path(word).suffix.lower() in SUFFIXES:
            name = readable_name(Path(word).name)
            yield ImageData.from_arrays(read_image(word)[None], np.array([NO_LABEL]), classes, [name])
        else:
            yield open_data(word, "test", classes)


def iter_samples(
    opened: OpenModels, inputs: Sequence[str], class_id: int, kept: Sequence[int], options: Mapping[str, Any]
) -> Iterator[Sample]:
    """Images in a fixed random order, the classes in turn; those of another class are looked at for their own.

    Args:
        opened: See :func:`open_classifiers`.
        inputs: See :func:`open_inputs`. An image without a label is looked at for the class.
        class_id: The class that was forgotten.
        kept: Other classes to look at; none takes all.
        options: Not used.
    """
    for data in open_inputs(inputs, opened.class_names):
        for index in in_turn(data.labels):
            label = int(data.labels[index])
            removed = label in (class_id, NO_LABEL)
            if removed or not kept or label in kept:
                yield sample_of(opened.context, data, index, class_id if removed else label, removed)


def in_turn(labels: np.ndarray) -> list[int]:
    """Places of samples in a fixed random order: the first of each class, then the second of each, ..."""
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    seen: Counter[int] = Counter()
    rounds = {}
    for index in order:
        rounds[index] = seen[int(labels[index])]
        seen[int(labels[index])] += 1
    return sorted(order, key=rounds.__getitem__)


def sample_of(spec: ModelSpec, data: ImageData, index: int, class_id: int, removed: bool, **region: Any) -> Sample:
    """One image as the network takes it; ``region``, ``region_is`` and ``caption`` as of :class:`delete_tasks.task.Sample`."""
    transform = eval_transform(spec)
    image, _ = data[index]
    return Sample(data.names[index], as_seen(spec, image), transform(image), class_id, removed, **region)


def as_seen(spec: ModelSpec, image: np.ndarray) -> np.ndarray:
    """What is left of a picture when it was resized for the network: uint8 RGB of the network's input size."""
    transform = eval_transform(spec)
    steps = transform.pipeline.transforms
    for step in steps[:-1]:  # all but the last, which scales and normalises
        image = step(image=image)["image"]
    return np.ascontiguousarray(image)
