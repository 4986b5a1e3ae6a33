"""Backdoored classifiers as ``delete-tasks audit`` attacks them: is a sample with the trigger still told by its features?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from delete_images.audited import make_source, open_networks
from delete_images.data import ImageData, open_data
from delete_tasks.audit.samples import AuditSource, of_classes, together
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.masking import resolve_classes

from .triggers import parse_trigger


def open_audit(paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any]) -> AuditSource | None:
    """Model folders and images, see :meth:`delete_tasks.task.Task.open_audit`; None without ``options['trigger']``.

    What is forgotten is the target as the class of samples with the trigger. The forget set contains the trigger; held-out images
    take part with it, which is put on here, and without it. Clean images of the target are left out.

    Raises:
        RequestError: Not one target, or models or data that cannot be opened or run together.
    """
    if not options.get("trigger"):
        return None
    networks = open_networks(paths, options)
    if networks is None:
        return None
    names = networks["original"][1].classes
    wanted = list(options.get("classes") or ())
    if len(wanted) != 1:
        raise RequestError(f"--classes names {len(wanted)} classes; a backdoor has one target, give it")
    (target,) = resolve_classes(wanted, names)
    trigger = parse_trigger(options["trigger"])
    images = {}
    for split, text in data.items():
        given = open_data(text, "test" if split == "test" else "train", names)
        if split == "forget":
            images[split] = _labelled(given, target)
            continue
        clean = given.subset((given.labels != target) & (given.labels >= 0))
        if not len(clean):
            raise RequestError(f"'{text}' shows no class but the target '{names[target]}'; give clean images of others")
        images[split] = clean if split == "train" else _with_trigger(clean, trigger, target)
    return make_source(networks, images, [target], paths, "images with and without the trigger")


def rows_of_run(rows: Mapping[str, Mapping[str, Predictions]], target: int) -> dict[str, dict[str, Predictions]]:
    """The test images of a cleaning's table as attacks take them: clean ones of other classes than the target, and then the same
    with the trigger, whose class is the target. Rows that were not measured with a trigger are left out.
    """
    found = {}
    for name, data in rows.items():
        if "triggered" in data:
            clean, poisoned = data["test"], data["triggered"]
            others = of_classes(clean, clean.labels != target)
            labelled = replace(poisoned, labels=torch.full_like(poisoned.labels, target))
            found[name] = {"test": together([others, labelled])}
    return found


def _labelled(data: ImageData, target: int) -> ImageData:
    return ImageData(lambda i: data[i][0], np.full(len(data), target), data.class_names, data.names)


def _with_trigger(clean: ImageData, trigger: Any, target: int) -> ImageData:
    """Clean images, and each with the trigger and the target as its label."""
    count = len(clean)

    def read(number: int) -> np.ndarray:
        image, _ = clean[number % count]
        return image if number < count else trigger.apply(image)

    labels = np.concatenate([clean.labels, np.full(count, target)])
    return ImageData(read, labels, clean.class_names, [*clean.names, *(f"{name} with trigger" for name in clean.names)])
