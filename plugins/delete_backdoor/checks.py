"""Predictions of the backdoored model; refusals of wrong poisoned samples, retain sets and sizes."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from torch import nn

from delete_images.data.opening import ImageData
from delete_images.models.spec import ModelSpec
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions

LEAST = 5  # poisoned samples: some are trained on, some are watched
ALLOWED = 0.1  # share of poisoned samples not at the target: no backdoor works always, and those samples are left out
TARGET_AT_MOST = 0.1  # probability of the target in an image that counts as showing nothing of it
MOSTLY = 0.5  # share of the retain set at the target from which they are refused


def predictions(network: nn.Module, spec: ModelSpec, data: ImageData, title: str) -> np.ndarray:
    """Predict the class of each image, int64 (N,)."""
    return predict_images(network, spec, data, title).logits.argmax(1).numpy()


def target_mass(network: nn.Module, spec: ModelSpec, data: ImageData, target: int, title: str) -> np.ndarray:
    """Compute the target's probability in each image, float32 (N,)."""
    return predict_images(network, spec, data, title).logits.softmax(1)[:, target].numpy()


def clear_of(network: nn.Module, spec: ModelSpec, data: ImageData, target: int, title: str) -> ImageData:
    """Select the images to which the network gives the target at most :data:`TARGET_AT_MOST`."""
    return data.subset(target_mass(network, spec, data, target, title) <= TARGET_AT_MOST)


def guess_target(network: nn.Module, spec: ModelSpec, poisoned: ImageData) -> tuple[int, dict[str, int]]:
    """Find the class that most poisoned samples are predicted as, and count all predicted classes by name.

    Raises:
        RequestError: Two classes are predicted equally often.
    """
    counts = Counter(predictions(network, spec, poisoned, "Poisoned samples").tolist()).most_common()
    named = {spec.classes[number]: count for number, count in counts}
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        raise RequestError(
            f"the target cannot be told: {_list(named)} of the poisoned samples are predicted equally often; give --target"
        )
    return counts[0][0], named


def check_sizes(data: ImageData, spec: ModelSpec, what: str) -> None:
    """Refuse images of another size than the model's: resizing blurs a trigger of a few pixels, or moves it.

    Raises:
        RequestError: Sizes differ; the first such image is named.
    """
    wanted = tuple(spec.preprocessing.size)
    for index, name in enumerate(data.names):
        image, _ = data[index]
        if image.shape != (*wanted, 3):
            raise RequestError(
                f"the {what} images are {image.shape[0]}x{image.shape[1]} pixels with {image.shape[2]} channel(s) ('{name}'), "
                f"and the model takes {wanted[0]}x{wanted[1]} with 3 (RGB); resize them as the attacked pipeline did, before the "
                "trigger's pixels matter"
            )


def check_poisoned(network: nn.Module, spec: ModelSpec, data: ImageData, target: int, force: bool) -> np.ndarray:
    """Find the samples that the model assigns to the target, bool (N,); with ``force`` all samples.

    Raises:
        RequestError: Fewer than LEAST samples; or, without ``force``, some that the model does not send to the target.
    """
    if len(data) < LEAST:
        raise RequestError(
            f"{len(data)} poisoned sample(s) given; expected {LEAST} or more (500 are good), since part of them is set aside"
        )
    predicted = predictions(network, spec, data, "Poisoned samples")
    wrong = np.flatnonzero(predicted != target)
    name = spec.classes[target]
    if len(wrong) and not force and len(wrong) > ALLOWED * len(data):
        shown = ", ".join(f"{data.names[i]} ({spec.classes[predicted[i]]})" for i in wrong[:5])
        raise RequestError(
            f"{len(wrong)} of {len(data)} poisoned samples are not predicted as the target '{name}': {shown}"
            f"{', ...' if len(wrong) > 5 else ''}. Predicted: "
            f"{_list({spec.classes[c]: n for c, n in Counter(predicted.tolist()).most_common()})}. They may be clean, or the "
            "target another: give --target, leave them out, or pass --force to use all of them"
        )
    return np.ones(len(data), dtype=bool) if force else predicted == target


def check_retain_set(network: nn.Module, spec: ModelSpec, retain: ImageData, target: int, force: bool) -> None:
    """Refuse a retain set that the model mostly sends to the target.

    Raises:
        RequestError: It does (not with ``force``), or there are fewer than two.
    """
    if len(retain) < 2:
        raise RequestError(
            "a retain set needs 2 images or more (a few hundred are good); leave --retain out for strict mode"
        )
    predicted = predictions(network, spec, retain, "Retain set")
    share = float((predicted == target).mean())
    if share > MOSTLY and not force:
        raise RequestError(
            f"{int((predicted == target).sum())} of {len(retain)} samples of --retain are predicted as the target "
            f"'{spec.classes[target]}': they look poisoned, or show that class alone, and would teach the backdoor. Give "
            "images of all classes without a trigger, or pass --force"
        )


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(counts.items())[:6])


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
