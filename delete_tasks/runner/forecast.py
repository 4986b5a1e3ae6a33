"""Dry run: what a checked request would do, and its time on this machine."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mmengine.registry import HOOKS

from ..errors import RequestError
from ..evaluation.opened import Opened
from ..evaluation.reader import TRIED
from ..losses import masked_kl_div
from ..losses.masks import class_mask
from ..task import task_for
from .forget_check import predictions
from .recipe import apply_recipe, split_options


def dry_run(cfg: Any, opened: Opened, dataset: Any, collate: Callable[[list[Any]], Any]) -> list[str]:
    """Describe the run of a checked config in sentences, and time two training steps and a few predictions with the original.
    ``collate`` makes a batch of the training ``dataset``'s items. Raise :class:`RequestError` if the forget set is empty."""
    recipe, options = split_options(apply_recipe(cfg).unlearn)
    select, model = HOOKS.build(dict(options)).request.select, opened.models["original"].module
    task, teacher = task_for(model), model if select == "teacher" else None
    forget_set = task.forget_data(dataset).find_forget_set(opened.ids, teacher, cfg)
    if not forget_set:
        raise RequestError(f"the forget set is empty: none of {len(dataset)} {opened.of} shows a class to forget")
    size = recipe.batch_size or cfg.train_dataloader.get("batch_size", 1)
    step = _seconds_of_step(opened, collate([dataset[i] for i in itertools.islice(itertools.cycle(forget_set), size)]))
    table = 2 * sum(_seconds_of_split(opened, split) for split in opened.samples)
    total = recipe.steps * step + table
    return [
        f"Would forget: {', '.join(opened.names[i] for i in opened.ids)}",
        f"Forget set: {len(forget_set)} of {len(dataset)} {opened.of} ({select})",
        f"Loss replaced in: {', '.join(point.name for point in task.loss_points(model))}",
        f"Recipe: {recipe.steps} steps, batch {size} per process, {dict(recipe.optimizer)}",
        f"Time: about {f'{total:.0f} seconds' if total < 100 else f'{total / 60:.0f} minutes'} on this machine (measured: "
        f"{step:.2g} s a step, {table:.2g} s for the table; without the audit)",
    ]


def _seconds_of_step(opened: Opened, batch: Any) -> float:
    """Time a training step: both models' forward passes, the loss and its gradients."""
    model: Any = opened.models["original"].module
    task, inputs, begin = task_for(model), model.data_preprocessor(batch, True), 0.0
    for _ in range(2):  # the first pass through a network is slower
        begin = time.monotonic()
        target, student = (predictions(task, model, inputs, gradients).logits[0] for gradients in (False, True))
        masked_kl_div(student, target, class_mask(opened.ids, student.shape[1], student.ndim)).backward()
    return time.monotonic() - begin


def _seconds_of_split(opened: Opened, split: str) -> float:
    """Estimate the time to read a split with the original from a few samples, without the first batch if there are more."""
    samples = opened.samples[split]
    few = samples.subset(range(min(TRIED, len(samples))))
    begin, read = time.monotonic(), replace(opened, samples={split: few}).read(split, ["original"])
    ends = [begin, *(time.monotonic() for _ in read)]
    batches, first = len(ends) - 1, int(len(ends) > 2)
    return (ends[-1] - ends[first]) / (batches - first) * batches / len(few) * len(samples)
