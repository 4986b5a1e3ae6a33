"""Backdoored classifiers with clean and triggered images, opened once for table, record rerun, audit and attention."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from delete_images.data.opening import NO_LABEL, ImageData, find_copies, open_data
from delete_images.look import as_seen, open_inputs, sample_of
from delete_images.models.spec import ModelSpec, spec_to_json
from delete_images.opened import check_shapes, located, make_opened, open_attacked, open_networks, open_recorded
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.metric import NotMeasured
from delete_tasks.evaluation.opened import Opened, Place, Sample, Text
from delete_tasks.evaluation.predictions import choose, together
from delete_tasks.request.classes import resolve_classes

from .checks import check_sizes
from .datasets import POISONED
from .grammar import type_of
from .poison import triggered
from .triggers import parse_trigger, split_trigger

WHOLE = 0.5  # share of the picture: a trigger that changes more pixels has no region
OF = "images with and without the trigger"
LIMITS = ("The attack figures hold for the trigger named here; other triggers of the same model were not tested.",)


def open_backdoored(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open model folders and images, see :attr:`delete_tasks.task.Task.open`; None without ``options['trigger']``. For attacks,
    the forgotten class is the target as the label of triggered samples; test images are read with the trigger and without it, and
    clean ones of the target left out. Refuse any but one target, and models or data that cannot be opened or run together."""
    recorded = bool(options.get("recorded"))
    if not options.get("trigger") and not recorded:
        return None
    networks = open_networks(paths, options)
    if networks is None:
        return None
    spec = next(iter(networks.values()))[1]
    trigger = None if options["trigger"] is None else parse_trigger(options["trigger"])
    if recorded:
        clean = open_recorded(data["test"], "test", spec.classes, options.get("left_out", ()))
        samples = open_test(clean, trigger, options["classes"][0])
        return make_opened(networks, spec.classes, samples=samples, ids=list(options["classes"]))
    if not data:
        check_shapes(networks, paths)
        opened = make_opened(networks, spec.classes)
        opened.look = partial(look_at_triggered, opened, spec, trigger)
        return opened
    wanted = list(options.get("classes") or ())
    if len(wanted) != 1:
        raise RequestError(f"--classes names {len(wanted)} classes; a backdoor has one target class, give that one")
    (target,) = resolve_classes(wanted, spec.classes)
    images = {}
    for split, text in data.items():
        images[split] = every = open_data(text, "test" if split == "test" else "train", spec.classes)
        if split == "forget":
            every.labels[:] = target
            continue
        clean = every.subset((every.labels != target) & (every.labels >= 0))
        if not len(clean):
            raise RequestError(f"'{text}' holds only the target '{spec.classes[target]}'; give images of other classes")
        images[split] = clean if split == "train" else _with_trigger(clean, trigger, target)
    return open_attacked(networks, images, [target], paths, OF)


def open_run(original: Any, spec: ModelSpec, target: int, test: str | None, trigger: str | None) -> Opened:
    """Open what a cleaning measures before its first step: the ``original`` on ``test`` images, clean and with the ``trigger``.
    Refuse a trigger alone, no labels, none of the target or of another class and, with a trigger, a size not the model's."""
    models = {"original": (original, spec)}
    opened = make_opened(models, spec.classes, ids=[target], limits=LIMITS, reopen="no test images were given")
    if test is None:
        if trigger is not None:
            raise RequestError("--trigger attacks test images, but --test is not given; give both")
        return opened
    stamp = None if trigger is None else parse_trigger(trigger)
    clean = open_data(test, "test", spec.classes)
    missing = int((clean.labels == NO_LABEL).sum())
    if missing:
        raise RequestError(f"{missing} of {len(clean)} images in '{test}' have no label, which measuring needs")
    of_target, name = clean.labels == target, spec.classes[target]
    if of_target.all() or not of_target.any():
        which = "contains nothing but" if of_target.all() else "contains no image of"
        raise RequestError(f"--test '{test}' {which} the target class '{name}'; give test images of all classes")
    if stamp is not None:
        check_sizes(clean, spec, "test")
        opened.look, opened.look_at = partial(look_at_triggered, opened, spec, stamp), [clean]
    opened.samples = open_test(clean, stamp, target)
    put_on = None if trigger is None else located_trigger(trigger)
    options = {"classes": [target], "spec": spec_to_json(spec), "left_out": [], "trigger": put_on}
    opened.reopen = {"data": {"test": located(test)}, "options": options}
    opened.measured_on = Text([*located(test).pieces, f", trigger {trigger or 'not given'}"])
    return opened


def keep_apart(opened: Opened, target: int, used: Mapping[str, ImageData]) -> None:
    """Leave out test images that are, with or without the trigger, among those ``used`` to clean."""
    if "test" not in opened.samples:
        return
    labels, copies = opened.samples["test"].labels, list[Copies]()
    kept, others = np.ones(len(labels), bool), np.flatnonzero(labels != target)
    for split, indices in (("test", np.arange(len(labels))), ("triggered", others)):
        if split in opened.samples:
            mask, more = find_copies(opened.samples[split], "--test", used, like=POISONED if split == "test" else "")
            kept[indices[~mask]] = False
            copies += more
    masks = {"test": kept, "triggered": kept[others]}
    opened.samples = {split: data.subset(masks[split]) for split, data in opened.samples.items()}
    opened.copies, opened.left_out = copies, np.flatnonzero(~kept).tolist()
    reopen: Any = opened.reopen
    reopen["options"]["left_out"] = opened.left_out


def located_trigger(text: str) -> Text:
    """Split a trigger string into text and places (its files), so that a record can be moved."""
    name, options, values = split_trigger(text)
    files = {key for key, option in options.items() if type_of(option.annotation) == "File"}
    pieces: list[Any] = [name]
    for key, value in values:
        place = Place(os.path.abspath(os.path.expanduser(value))) if key in files else value
        pieces += [f"{':' if len(pieces) == 1 else ','}{key}=", place]
    return Text(pieces)


def open_test(clean: ImageData, trigger: Any, target: int) -> dict[str, ImageData]:
    """Make the splits 'test' and, with a trigger, 'triggered': images of other classes than the target, with the trigger."""
    return {"test": clean} if trigger is None else {"test": clean, "triggered": triggered(clean, trigger, target)}


def attacked_rows(rows: Mapping[str, Mapping[str, Predictions]], target: int) -> dict[str, dict[str, Predictions]]:
    """Arrange the predictions of a cleaning's table for attacks: clean images of other classes than the target, then with the
    trigger, labelled as the target. Rows without a trigger are left out; raise NotMeasured if all are."""
    attacked = {}
    for name, data in rows.items():
        if "triggered" in data:
            clean, poisoned = data["test"], data["triggered"]
            others = choose(clean, clean.labels != target)
            labelled = replace(poisoned, labels=torch.full_like(poisoned.labels, target))
            attacked[name] = {"test": together([others, labelled])}
    if not attacked:
        raise NotMeasured("attacks need --test and --trigger; without them the watch is the only check")
    return attacked


def _with_trigger(clean: ImageData, trigger: Any, target: int) -> ImageData:
    """Join clean images and the same images with the trigger, labelled as the target."""
    count = len(clean)

    def read(number: int) -> np.ndarray:
        image, _ = clean[number % count]
        return image if number < count else trigger.apply(image)

    labels = np.concatenate([clean.labels, np.full(count, target)])
    return ImageData(read, labels, clean.class_names, [*clean.names, *(f"{name} with trigger" for name in clean.names)])


def look_at_triggered(
    opened: Opened, spec: ModelSpec, trigger: Any, inputs: Sequence[Any], class_id: int, others: Sequence[int]
) -> Iterator[Sample]:
    """Give each clean image with the trigger, for the attention of the target ``class_id``, if the original then predicts it, and
    without it, for its label's, except images of the target and classes not in ``others``. ``inputs`` are ``open_inputs``'."""
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
            subject = "image" if label < 0 else f"'{opened.names[label]}'"
            says = f"{subject} with the trigger,\nmaps of the target '{opened.names[class_id]}'"
            attacked = sample_of(spec, one, 0, class_id, True, **region, caption=says)
            with torch.no_grad():
                predicted = int(original.run(attacked.inputs[None]).argmax(1))
            if predicted == class_id:
                yield attacked
            if label >= 0:
                says = f"{subject} without the trigger,\nmaps of its own class"
                yield sample_of(spec, data, index, label, False, caption=says)
