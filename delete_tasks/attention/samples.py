"""Looking at many samples: what the command, and the pictures of a record, are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..compute import flush_subnormals
from ..errors import RequestError
from ..image_files import check_pictures
from ..masking import resolve_classes
from ..task import OpenModels, Sample, Task, ask_tasks
from ..terminal import track
from .layers import find_layer
from .measure import ComparedSample, compare


def open_models(
    paths: Mapping[str, str], options: Mapping[str, Any], task: str | None = None
) -> tuple[Task, OpenModels]:
    """The task whose models these are, and the models. ``task`` names the only one to ask.

    Raises:
        RequestError: No task takes them; the message says which were asked.
    """
    flush_subnormals()
    return ask_tasks(
        lambda found: found.open_models(paths, options),
        paths["original"],
        task,
        lambda found: (
            "attention: its plugin opens no models for it" if type(found).open_models is Task.open_models else None
        ),
    )


def _up_to(samples: Iterable[Sample], limit: int, forgotten: Sequence[int] = ()) -> Iterator[Sample]:
    """The first ``limit`` forgotten and kept samples; those of a class in ``forgotten`` are forgotten, whatever they say."""
    counts = {True: 0, False: 0}
    for sample in samples:
        if sample.class_id in forgotten:
            sample = replace(sample, removed=True)
        if counts[sample.removed] < limit:
            counts[sample.removed] += 1
            yield sample
        if min(counts.values()) >= limit:
            return


def compare_samples(
    task: Task,
    opened: OpenModels,
    inputs: Sequence[str],
    class_name: str | int,
    kept: Sequence[str | int] = (),
    limit: int = 60,
    layer: str | None = None,
    options: Mapping[str, Any] | None = None,
    forgotten: Sequence[int] = (),
) -> tuple[str, list[ComparedSample]]:
    """Compare the models on up to ``limit`` samples of what was forgotten, and as many of what was kept. ``kept`` are classes
    to compare beside it, none takes what the task finds; ``forgotten`` ids of all classes that were forgotten, if they are
    more: a sample of one of them is none of what was kept.

    Returns:
        Name of the layer, and the comparisons in the order in which the task gives samples.

    Raises:
        RequestError: Unknown class or layer, no such input, an image that is damaged or too large (see
            :func:`delete_tasks.image_files.read_image`), or no sample that shows the class.
    """
    if limit < 1:
        raise RequestError(f"--limit is {limit}; expected at least one sample")
    check_pictures(inputs)
    (first,) = resolve_classes([class_name], opened.class_names)
    others = resolve_classes(list(kept), opened.class_names) if kept else []
    original = opened.models["original"]
    device = next(original.parameters()).device
    classifier = task.classifier(original)[1]
    elementwise = task.elementwise_attention
    found, comparisons = None, []
    samples = task.iter_samples(opened, inputs, first, others, options or {})
    for sample in track(_up_to(samples, limit, forgotten), 2 * limit, "Attention maps"):
        if found is None:
            found = find_layer(original, sample.inputs[None].to(device), classifier, task.class_logits, layer)
        comparisons.append(compare(opened.models, task.class_logits, found, sample, device, elementwise))
    if found is None:
        raise RequestError(
            f"no sample of {', '.join(inputs) or 'the data'} shows '{opened.class_names[first]}' or a class to compare "
            "with it; give other inputs"
        )
    return found.name, comparisons
