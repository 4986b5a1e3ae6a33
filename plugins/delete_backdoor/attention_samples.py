"""Triggered images as ``delete-tasks attention`` and the erasure record look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from delete_images.attention_samples import as_seen, open_classifiers, open_inputs, sample_of
from delete_images.classifier import predict_batch
from delete_images.data import ImageData
from delete_tasks.task import OpenModels, Sample

from .triggers import parse_trigger

WHOLE = 0.5  # of the picture: a trigger that changes more of it has no place of its own


def open_backdoored_models(paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None:
    """Model folders, as for images; None without ``options['trigger']``."""
    return open_classifiers(paths, options) if options.get("trigger") else None


def iter_samples(
    opened: OpenModels, inputs: Sequence[str], class_id: int, kept: Sequence[int], options: Mapping[str, Any]
) -> Iterator[Sample]:
    """Each clean image with the trigger on it, looked at for the target, and without it, looked at for its own class;
    captions say which.

    With the trigger on it an image takes part where the attack works, i.e. the original predicts the target.

    Args:
        opened: See :func:`open_backdoored_models`.
        inputs: Clean images, see
            :func:`delete_images.attention_samples.open_inputs`; those of the target class are left out.
        class_id: The attacker's target.
        kept: Classes of the images to take; none takes all.
        options: ``trigger``, as of ``backdoor clean``.
    """
    trigger, spec = parse_trigger(options["trigger"]), opened.context
    original: Any = opened.models["original"]
    for data in open_inputs(inputs, opened.class_names):
        for index in np.random.default_rng(0).permutation(len(data)).tolist():
            image, label = data[index]
            if label == class_id or (kept and label not in kept):
                continue
            stamped = trigger.apply(image)
            changed = (as_seen(spec, stamped) != as_seen(spec, image)).any(2)
            local = 0 < changed.mean() <= WHOLE
            name = data.names[index]
            one = ImageData.from_arrays(
                stamped[None], np.array([class_id]), opened.class_names, [f"{name} with trigger"]
            )
            region = {"region": changed if local else None, "region_is": "trigger" if local else "whole picture"}
            shown = "image" if label < 0 else f"'{opened.class_names[label]}'"
            says = f"{shown} with the trigger,\nmaps of the target '{opened.class_names[class_id]}'"
            attacked = sample_of(spec, one, 0, class_id, True, **region, caption=says)
            if int(predict_batch(original, attacked.inputs[None]).argmax(1)) == class_id:
                yield attacked
            if label >= 0:
                yield sample_of(
                    spec, data, index, label, False, caption=f"{shown} without the trigger,\nmaps of its own class"
                )
