"""Test data of ``backdoor clean``, checked before the first step, and what networks predict for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from delete_images.data import NO_LABEL, ImageData, open_data
from delete_images.evaluate import predict_images
from delete_images.spec import ModelSpec
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions

from .checks import check_sizes
from .poison import triggered
from .triggers import parse_trigger


def open_test(test: str | None, trigger: str | None, spec: ModelSpec, target: int) -> dict[str, ImageData]:
    """Open test images and put the trigger on a copy of them: 'test', and 'triggered', those that are not of the target.

    Raises:
        RequestError: A trigger without test images, images without labels, none of the target class or none of another, or,
            with a trigger, another size than the model's.
    """
    if test is None:
        if trigger is not None:
            raise RequestError("--trigger says how test images are attacked, and there are none; give --test, too")
        return {}
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
    if stamp is None:
        return {"test": clean}
    check_sizes(clean, spec, "test")
    return {"test": clean, "triggered": triggered(clean, stamp, target)}


def predict_tests(
    network: nn.Module, spec: ModelSpec, test: Mapping[str, ImageData], name: str
) -> dict[str, Predictions]:
    """A network's predictions for the test images of :func:`open_test`."""
    return {kind: predict_images(network, spec, data, f"{name}, {kind}") for kind, data in test.items()}


def check_original(found: Mapping[str, Predictions], classes: int, force: bool) -> None:
    """Refuse an original on which a cleaning could not be measured. With ``force`` only outputs that are not finite are
    refused.

    Raises:
        RequestError: Its outputs are not finite, or (not with ``force``) it predicts no better than chance.
    """
    if not all(bool(part.logits.isfinite().all()) for part in found.values()):
        raise RequestError("the model's outputs on the test images are not all finite: its weights are damaged")
    if "test" not in found or force:
        return
    chance, count = 1 / classes, len(found["test"].labels)
    accuracy = float((found["test"].predicted == found["test"].labels).float().mean())
    if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / count):
        raise RequestError(
            f"the model predicts {100 * accuracy:.1f}% of {count} test images as their class, no more than chance: its "
            "classes are in another order than the data's, or model.json says another normalisation than it was trained "
            "with; import it again, or pass --force"
        )
