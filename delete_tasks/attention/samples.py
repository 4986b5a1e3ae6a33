"""Looking at many samples: what the command, and the pictures of a record, are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..display.terminal import track
from ..errors import RequestError
from ..evaluation.opened import Opened, Sample
from ..fileio.compute import flush_subnormals
from ..fileio.images import check_pictures
from ..model.features import find_layer
from ..request.classes import resolve_classes
from ..task import Task, ask_tasks
from .measure import ComparedSample, compare


def open_models(paths: Mapping[str, str], options: Mapping[str, Any], name: str | None = None) -> tuple[Task, Opened]:
    """The task whose models these are, and the models. ``name`` is that of the only task to ask.

    Raises:
        RequestError: No task takes them; the message says which were asked.
    """
    flush_subnormals()

    def question(task: Task) -> Opened | None:
        opened = None if task.open is None else task.open(paths, {}, options)
        if name is not None and (task.open is None or (opened is not None and opened.look is None)):
            raise RequestError(f"{name} does not offer attention: its plugin has no samples to look at")
        return None if opened is None or opened.look is None else opened

    return ask_tasks(question, paths["original"], name)


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
    opened: Opened,
    inputs: Sequence[Any],
    class_name: str | int,
    kept: Sequence[str | int] = (),
    limit: int = 60,
    layer: str | None = None,
    forgotten: Sequence[int] = (),
    rows: Sequence[str] | None = None,
) -> tuple[str, list[ComparedSample]]:
    """Compare models on up to ``limit`` samples of a forgotten class, and as many of others.

    Args:
        opened: With ``look``.
        inputs: Of ``look``.
        class_name: The forgotten class.
        kept: Classes to compare beside it; none takes what the task finds.
        limit: Samples of each kind, at most.
        layer: Name of the layer to look at; None takes the last map before the classifier.
        forgotten: Ids of all forgotten classes, if there are more: a sample of one of them is none of those kept.
        rows: Of the models, the original's first; None takes all.

    Returns:
        Name of the layer, and the comparisons in the order in which the task gives samples.

    Raises:
        RequestError: Unknown class or layer, no such input, an image that is damaged or too large (see
            :func:`delete_tasks.fileio.images.read_image`), or no sample that shows the class.
    """
    if limit < 1:
        raise RequestError(f"--limit is {limit}; expected at least one sample")
    check_pictures([word for word in inputs if isinstance(word, str)])
    (first,) = resolve_classes([class_name], opened.names)
    others = resolve_classes(list(kept), opened.names) if kept else []
    models = {row: opened.models[row] for row in rows or opened.models}
    original = models["original"]
    chosen, comparisons = None, []
    samples = opened.look(inputs, first, others) if opened.look is not None else ()
    for sample in track(_up_to(samples, limit, forgotten), 2 * limit, "Attention maps"):
        if chosen is None:
            one = sample.inputs[None].to(original.device)
            chosen = find_layer(original.module, one, original.last_layer, original.forward, layer)
        comparisons.append(compare(models, chosen, sample, opened.elementwise))
    if chosen is None:
        raise RequestError(
            f"no sample of {', '.join(map(str, inputs)) or 'the data'} shows '{opened.names[first]}' or a class to compare "
            "with it; give other inputs"
        )
    return chosen.name, comparisons
