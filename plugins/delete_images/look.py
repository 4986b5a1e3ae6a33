"""Samples for attention: images in a fixed order, preprocessed for the network."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Sample
from delete_tasks.fileio.images import SUFFIXES, read_image, readable_name

from .data.opening import NO_LABEL, ImageData, open_data
from .data.transforms import eval_transform
from .models.spec import ModelSpec


def open_inputs(inputs: Sequence[Any], classes: Sequence[str]) -> Iterator[ImageData]:
    """Open data strings (their test part if they have one) and single images, which have no label; opened images stay."""
    if not inputs:
        raise RequestError("no images: give data such as 'cifar10?split=test&limit=200', a folder, or image files")
    for word in inputs:
        if isinstance(word, ImageData):
            yield word
        elif Path(word).is_file() and Path(word).suffix.lower() in SUFFIXES:
            name = readable_name(Path(word).name)
            yield ImageData.from_arrays(read_image(word)[None], np.array([NO_LABEL]), classes, [name])
        else:
            yield open_data(word, "test", classes)


def look_at_images(spec: ModelSpec, inputs: Sequence[Any], class_id: int, others: Sequence[int]) -> Iterator[Sample]:
    """Iterate over images of ``class_id`` or no class, and of ``others`` (none: all), in a random order, classes in turn."""
    for data in open_inputs(inputs, spec.classes):
        for index in in_turn(data.labels):
            label = int(data.labels[index])
            removed = label in (class_id, NO_LABEL)
            if removed or not others or label in others:
                yield sample_of(spec, data, index, class_id if removed else label, removed)


def in_turn(labels: np.ndarray) -> list[int]:
    """Order samples by a fixed random order: the first of each class, then the second of each, ..."""
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    counters: defaultdict[int, count[int]] = defaultdict(count)
    rounds = {index: next(counters[int(labels[index])]) for index in order}
    return sorted(order, key=rounds.__getitem__)


def sample_of(spec: ModelSpec, data: ImageData, index: int, class_id: int, removed: bool, **region: Any) -> Sample:
    """Make a preprocessed sample of one image; ``region``, ``region_is`` and ``caption`` as of :class:`Sample`."""
    image, _ = data[index]
    return Sample(data.names[index], as_seen(spec, image), eval_transform(spec)(image), class_id, removed, **region)


def as_seen(spec: ModelSpec, image: np.ndarray) -> np.ndarray:
    """Resize an image as for the network: uint8 RGB of the network's input size."""
    for step in eval_transform(spec).pipeline.transforms[:-1]:  # without the last, which scales and normalises
        image = step(image=image)["image"]
    return np.ascontiguousarray(image)
