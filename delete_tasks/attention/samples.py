"""Attention maps of many samples, for the command and a record's picture."""

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
    """Find the task that takes the models (``name``: the only candidate), and open them; raise :class:`RequestError` if none
    does."""
    flush_subnormals()

    def question(task: Task) -> Opened | None:
        opened = None if task.open is None else task.open(paths, {}, options)
        if name is not None and (task.open is None or (opened is not None and opened.look is None)):
            raise RequestError(f"{name} does not offer attention: its plugin has no samples to look at")
        return None if opened is None or opened.look is None else opened

    return ask_tasks(question, paths["original"], name)


def _up_to(samples: Iterable[Sample], limit: int, forgotten: Sequence[int] = ()) -> Iterator[Sample]:
    """Take the first ``limit`` forgotten and ``limit`` other samples; classes in ``forgotten`` are always forgotten."""
    counts = {True: 0, False: 0}
    for sample in samples:
        if sample.class_id in forgotten:
            sample = replace(sample, removed=True)
        if counts[sample.removed] < limit:
            counts[sample.removed] += 1
            yield sample
        if min(counts.values()) >= limit:
            return


def spread_samples(comparisons: Sequence[ComparedSample], each: int) -> list[ComparedSample]:
    """Choose up to ``each`` comparisons of forgotten and of other samples, evenly spaced."""
    chosen: list[ComparedSample] = []
    for removed in (True, False):
        kind = [compared for compared in comparisons if compared.sample.removed == removed]
        chosen += kind[:: max(1, len(kind) // each)][:each]
    return chosen


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
    """Compare models on up to ``limit`` samples of a forgotten class and as many of others; return the layer's name and the
    comparisons in the task's order of samples.

    ``inputs`` are images or data of the task; ``kept`` are the other classes (none: those of the samples); ``layer`` None is the
    last map before the classifier; ``forgotten`` are further forgotten classes, not compared as kept; ``rows`` are the models'
    names, the original first (None: all).

    Raises:
        RequestError: Unknown class or layer, missing input, a damaged or too large image (see
            :func:`delete_tasks.fileio.images.read_image`), or no sample of the class.
    """
    check_pictures([word for word in inputs if isinstance(word, str)])
    (first,) = resolve_classes([class_name], opened.names)
    others = resolve_classes(list(kept), opened.names) if kept else []
    models = {row: opened.models[row] for row in rows or opened.models}
    original = models["original"]
    chosen, comparisons = None, []
    samples = opened.look(inputs, first, others) if opened.look is not None else ()
    for sample in track(_up_to(samples, limit, forgotten), 2 * limit, "Attention maps"):
        if chosen is None:
            batch = sample.inputs[None].to(original.device)
            chosen = find_layer(original.module, batch, original.last_layer, original.forward, layer)
        comparisons.append(compare(models, chosen, sample, opened.elementwise))
    if chosen is None:
        raise RequestError(
            f"no sample of {', '.join(map(str, inputs)) or 'the data'} shows '{opened.names[first]}' or a class to compare "
            "with it; give other inputs"
        )
    return chosen.name, comparisons
