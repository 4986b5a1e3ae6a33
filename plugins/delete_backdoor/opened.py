"""Backdoored classifiers and clean and triggered images, opened once for all that measures or looks at them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from delete_images.data.opening import NO_LABEL, ImageData, open_data
from delete_images.look import as_seen, open_inputs, sample_of
from delete_images.models.spec import ModelSpec
from delete_images.opened import (
    Networks,
    check_shapes,
    located,
    make_opened,
    open_attacked,
    open_networks,
    open_recorded,
)
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.opened import Opened, Sample
from delete_tasks.evaluation.predictions import choose, together
from delete_tasks.evaluation.text import Place, Text
from delete_tasks.request.classes import resolve_classes

from .checks import check_sizes
from .grammar import type_of
from .poison import triggered
from .triggers import parse_trigger, split_trigger

WHOLE = 0.5  # of the picture: a trigger that changes more of it has no place of its own
OF = "images with and without the trigger"
LIMITS = ("The attack figures hold for the trigger named here; another trigger of the same model is not looked for.",)


def open_backdoored(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open model folders and images, see :attr:`delete_tasks.task.Task.open`; None without ``options['trigger']``.

    For attacks, the target is forgotten as the class of samples with the trigger. The forget set contains the trigger; held-out
    images take part with it, which is put on here, and without it. Clean images of the target are left out.

    Raises:
        RequestError: Not one target, or models or data that cannot be opened or run together.
    """
    recorded = bool(options.get("recorded"))
    if not options.get("trigger") and not recorded:
        return None
    networks = open_networks(paths, options)
    if networks is None:
        return None
    spec = next(iter(networks.values()))[1]
    trigger = None if options["trigger"] is None else parse_trigger(options["trigger"])
    if recorded:
        samples = open_test(open_recorded(data["test"], "test", spec.classes), trigger, options["classes"][0])
        return make_opened(networks, spec.classes, samples=samples, ids=list(options["classes"]))
    if not data:
        check_shapes(networks, paths)
        opened = make_opened(networks, spec.classes)
        opened.look = partial(look_at_triggered, opened, spec, trigger)
        return opened
    wanted = list(options.get("classes") or ())
    if len(wanted) != 1:
        raise RequestError(f"--classes names {len(wanted)} classes; a backdoor has one target, give it")
    (target,) = resolve_classes(wanted, spec.classes)
    images = {}
    for split, text in data.items():
        given = open_data(text, "test" if split == "test" else "train", spec.classes)
        if split == "forget":
            images[split] = _labelled(given, target)
            continue
        clean = given.subset((given.labels != target) & (given.labels >= 0))
        if not len(clean):
            name = spec.classes[target]
            raise RequestError(f"'{text}' shows no class but the target '{name}'; give clean images of others")
        images[split] = clean if split == "train" else _with_trigger(clean, trigger, target)
    return open_attacked(networks, images, [target], paths, OF)


def open_run(original: Any, spec: ModelSpec, target: int, test: str | None, trigger: str | None) -> Opened:
    """Open what a cleaning is measured on, before its first step.

    Args:
        original: The backdoored network.
        spec: Its description.
        target: The attacker's class.
        test: Data string of clean test images, or None.
        trigger: What they are attacked with, or None.

    Raises:
        RequestError: A trigger without test images, images without labels, none of the target class or none of another, or,
            with a trigger, another size than the model's.
    """
    networks: Networks = {"original": (original, spec)}
    opened = make_opened(networks, spec.classes, ids=[target], limits=LIMITS, reopen="no test images were given")
    if test is None:
        if trigger is not None:
            raise RequestError("--trigger says how test images are attacked, and there are none; give --test as well")
        return opened
    stamp = None if trigger is None else parse_trigger(trigger)
    clean = open_data(test, "test", spec.classes)
    missing = int((clean.labels == NO_LABEL).sum())
    if missing:
        raise RequestError(
            f"{missing} of {len(clean)} images in '{test}' have no label, without which nothing is measured"
        )
    shown, name = clean.labels == target, spec.classes[target]
    if shown.all() or not shown.any():
        which = "shows nothing but" if shown.all() else "shows no image of"
        raise RequestError(f"--test '{test}' {which} the target class '{name}'; give test images of all classes")
    if stamp is not None:
        check_sizes(clean, spec, "test")
        opened.look, opened.look_at = partial(look_at_triggered, opened, spec, stamp), [clean]
    opened.samples = open_test(clean, stamp, target)
    opened.measured_on = Text([*located(test).pieces, f", trigger {trigger or 'not given'}"])
    return opened


def reopening(test: str, trigger: str | None, target: int, spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell how :func:`open_backdoored` opens a run's models and test images again."""
    options = {"classes": [target], "spec": spec, "trigger": None if trigger is None else located_trigger(trigger)}
    return {"data": {"test": located(test)}, "options": options}


def located_trigger(text: str) -> Text:
    """Split a trigger string so that a record can be moved: files that it names are places."""
    name, options, given = split_trigger(text)
    files = {key for key, option in options.items() if type_of(option.annotation) == "File"}
    pieces: list[Any] = [name]
    for key, value in given:
        place = Place(os.path.abspath(os.path.expanduser(value))) if key in files else value
        pieces += [f"{':' if len(pieces) == 1 else ','}{key}=", place]
    return Text(pieces)


def open_test(clean: ImageData, trigger: Any, target: int) -> dict[str, ImageData]:
    """Put a trigger on test images: 'test', and 'triggered', those that are not of the target."""
    return {"test": clean} if trigger is None else {"test": clean, "triggered": triggered(clean, trigger, target)}


def attacked_rows(rows: Mapping[str, Mapping[str, Predictions]], target: int) -> dict[str, dict[str, Predictions]]:
    """Arrange the test images of a cleaning's table as attacks take them: clean ones of other classes than the target, and then
    the same with the trigger, whose class is the target. Rows that were not measured with a trigger are left out.
    """
    found = {}
    for name, data in rows.items():
        if "triggered" in data:
            clean, poisoned = data["test"], data["triggered"]
            others = choose(clean, clean.labels != target)
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


def look_at_triggered(
    opened: Opened, spec: ModelSpec, trigger: Any, inputs: Sequence[Any], class_id: int, others: Sequence[int]
) -> Iterator[Sample]:
    """Give each clean image with the trigger on it, looked at for the target, and without it, looked at for its own class;
    captions say which.

    With the trigger on it an image takes part where the attack works, i.e. the original predicts the target.

    Args:
        opened: With the original.
        spec: Of the original.
        trigger: See :func:`delete_backdoor.triggers.parse_trigger`.
        inputs: Clean images, see :func:`delete_images.look.open_inputs`; those of the target class are left out.
        class_id: The attacker's target.
        others: Classes of the images to take; none takes all.
    """
    original = opened.models["original"]
    for data in open_inputs(inputs, opened.names):
        for index in np.random.default_rng(0).permutation(len(data)).tolist():
            image, label = data[index]
            if label == class_id or (others and label not in others):
                continue
            stamped = trigger.apply(image)
            changed = (as_seen(spec, stamped) != as_seen(spec, image)).any(2)
            local = 0 < changed.mean() <= WHOLE
            name = data.names[index]
            one = ImageData.from_arrays(stamped[None], np.array([class_id]), opened.names, [f"{name} with trigger"])
            region = {"region": changed if local else None, "region_is": "trigger" if local else "whole picture"}
            shown = "image" if label < 0 else f"'{opened.names[label]}'"
            says = f"{shown} with the trigger,\nmaps of the target '{opened.names[class_id]}'"
            attacked = sample_of(spec, one, 0, class_id, True, **region, caption=says)
            with torch.no_grad():
                predicted = int(original.run(attacked.inputs[None]).argmax(1))
            if predicted == class_id:
                yield attacked
            if label >= 0:
                yield sample_of(
                    spec, data, index, label, False, caption=f"{shown} without the trigger,\nmaps of its own class"
                )
