"""Dry run: what a checked request would do, and its time on this machine."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mmengine.registry import HOOKS

from ..errors import RequestError
from ..evaluation.opened import Opened
from ..evaluation.reader import TRIED
from ..losses import masked_kl_div
from ..losses.masks import class_mask
from ..methods.options import split_options
from ..task import task_for
from .forget_check import predictions
from .recipe import apply_recipe


def dry_run(cfg: Any, opened: Opened, dataset: Any, collate: Callable[[Sequence[Any]], Any]) -> list[str]:
    """Describe the run of a config in sentences; its time is that of two training steps and a few predictions of the table.

    Args:
        cfg: Config with ``unlearn``, checked.
        opened: The original and the samples of the table.
        dataset: Training data.
        collate: Function that makes a batch of their items.

    Raises:
        RequestError: The forget set is empty.
    """
    recipe, options = split_options(apply_recipe(cfg).unlearn)
    select, model = HOOKS.build(dict(options)).request.select, opened.models["original"].module
    task = task_for(model)
    teacher = model if select == "teacher" else None
    forget_set = task.forget_data(dataset).find_forget_set(opened.ids, teacher, cfg)
    if not forget_set:
        raise RequestError(
            f"the forget set is empty: none of {len(dataset)} training {opened.of} shows a class to forget"
        )
    size = recipe.batch_size or cfg.train_dataloader.get("batch_size", 1)
    step = _seconds_of_step(opened, collate([dataset[i] for i in itertools.islice(itertools.cycle(forget_set), size)]))
    table = 2 * sum(len(samples) * _seconds_of_sample(opened, split) for split, samples in opened.samples.items())
    return [
        f"Would forget: {', '.join(opened.names[i] for i in opened.ids)}",
        f"Forget set: {len(forget_set)} of {len(dataset)} {opened.of} ({select})",
        f"Loss replaced in: {', '.join(point.name for point in task.loss_points(model))}",
        f"Recipe: {recipe.steps} steps, batch {size} per process, {dict(recipe.optimizer)}",
        f"Time: about {_in_words(recipe.steps * step + table)} on this machine (measured: {step:.2g} s a step, {table:.2g} s "
        "for the table; without the audit)",
    ]


def _seconds_of_step(opened: Opened, batch: Any) -> float:
    """Time both models' forward passes of a training step, its loss and its gradients."""
    model: Any = opened.models["original"].module
    task, inputs, seconds = task_for(model), model.data_preprocessor(batch, True), 0.0
    for _ in range(2):  # the first pass through a network is slower
        begin = time.monotonic()
        target, student = (predictions(task, model, inputs, gradients).logits[0] for gradients in (False, True))
        masked_kl_div(student, target, class_mask(opened.ids, student.shape[1], student.ndim)).backward()
        model.zero_grad()
        seconds = time.monotonic() - begin
    return seconds


def _seconds_of_sample(opened: Opened, split: str) -> float:
    """Time the original's prediction of a sample, without that of the first batch if there are more."""
    few = opened.samples[split].subset(range(min(TRIED, len(opened.samples[split]))))
    times, counts = [time.monotonic()], [0]
    for _, batch in replace(opened, samples={split: few}).read(split, ["original"]):
        times.append(time.monotonic())
        counts.append(len(batch.labels))
    first = min(1, len(times) - 2)
    return (times[-1] - times[first]) / sum(counts[first + 1 :])


def _in_words(seconds: float) -> str:
    return f"{max(1, round(seconds))} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
