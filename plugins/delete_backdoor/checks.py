"""Predictions of the backdoored model, and checks of poisoned samples, retain sets and sizes."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from torch import nn

from delete_images.data.opening import ImageData
from delete_images.models.spec import ModelSpec
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation import Predictions

LEAST = 5  # poisoned samples: some are trained on, some are held out
ALLOWED = 0.1  # share of poisoned samples not at the target: no backdoor always works, and those samples are left out
TARGET_AT_MOST = 0.1  # probability of the target in an image that counts as free of it
MOSTLY = 0.5  # share of the retain set at the target above which it is refused


def predictions(network: nn.Module, spec: ModelSpec, data: ImageData, title: str) -> np.ndarray:
    """Predict the class of each image, int64 (N,)."""
    return predict_images(network, spec, data, title).logits.argmax(1).numpy()


def clear_of(network: nn.Module, spec: ModelSpec, data: ImageData, target: int, title: str) -> ImageData:
    """Select the images to which the network gives the target at most :data:`TARGET_AT_MOST`."""
    mass = predict_images(network, spec, data, title).logits.softmax(1)[:, target].numpy()
    return data.subset(mass <= TARGET_AT_MOST)


def guess_target(network: nn.Module, spec: ModelSpec, poisoned: ImageData) -> tuple[str, Counter[str]]:
    """Find the class that most poisoned samples are predicted as, and count all by name. Refuse a tie of the most frequent."""
    counts = Counter(spec.classes[label] for label in predictions(network, spec, poisoned, "Poisoned samples"))
    (target, most), *others = counts.most_common(2)
    if others and others[0][1] == most:
        raise RequestError(
            f"the target is not clear: {_list(counts)} of the poisoned samples are predicted equally often; give --target"
        )
    return target, counts


def check_sizes(data: ImageData, spec: ModelSpec, what: str) -> None:
    """Refuse images of another size than the model's: resizing blurs a trigger of a few pixels, or moves it."""
    height, width = spec.preprocessing.size
    for index, name in enumerate(data.names):
        image, _ = data[index]
        if image.shape != (height, width, 3):
            raise RequestError(
                f"the {what} images are {image.shape[0]}x{image.shape[1]} pixels with {image.shape[2]} channel(s) ('{name}'), "
                f"and the model takes {height}x{width} with 3 (RGB); resize clean images as the attacked pipeline did, then add "
                "the trigger"
            )


def check_poisoned(
    network: nn.Module, spec: ModelSpec, data: ImageData, target: int, force: bool, allowed: float = ALLOWED
) -> np.ndarray:
    """Find samples assigned to the target, bool (N,), all by ``force``; refuse fewer than LEAST, or over ``allowed`` others."""
    if len(data) < LEAST:
        raise RequestError(f"{len(data)} poisoned sample(s); expected {LEAST} or more (better 500): a part is held out")
    predicted = predictions(network, spec, data, "Poisoned samples")
    wrong = np.flatnonzero(predicted != target)
    if not force and len(wrong) > allowed * len(data):
        named = [f"{data.names[i]} ({spec.classes[predicted[i]]})" for i in wrong]
        counts = _list(Counter(spec.classes[label] for label in predicted))
        raise RequestError(
            f"{len(wrong)} of {len(data)} poisoned samples are not predicted as the target '{spec.classes[target]}': "
            f"{list_names(named, 5)}. Predicted: {counts}. They may be clean, or the target another: "
            "give --target, leave them out, or pass --force to use all of them"
        )
    return np.ones(len(data), dtype=bool) if force else predicted == target


def check_retain_set(network: nn.Module, spec: ModelSpec, retain: ImageData, target: int, force: bool) -> None:
    """Refuse a retain set of fewer than two images or, without ``force``, one that the model mostly assigns to the target."""
    if len(retain) < 2:
        raise RequestError("a retain set needs 2 images or more (better: hundreds); leave --retain out for strict mode")
    at_target = predictions(network, spec, retain, "Retain set") == target
    if at_target.mean() > MOSTLY and not force:
        raise RequestError(
            f"{int(at_target.sum())} of {len(retain)} samples of --retain are predicted as the target '{spec.classes[target]}': "
            "they look poisoned, or show that class alone, and would teach the backdoor. Give images of all classes without a "
            "trigger, or pass --force"
        )


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(6))


def check_original(predictions_of: Mapping[str, Predictions], classes: int, force: bool) -> None:
    """Refuse an original whose outputs are not finite or, without ``force``, that predicts no better than chance."""
    if not all(bool(data.logits.isfinite().all()) for data in predictions_of.values()):
        raise RequestError("the model's outputs on the test images are not all finite: its weights are damaged")
    if "test" not in predictions_of or force:
        return
    right = (predictions_of["test"].predicted == predictions_of["test"].labels).float()
    chance, accuracy = 1 / classes, float(right.mean())
    if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / len(right)):
        raise RequestError(
            f"the model predicts {100 * accuracy:.1f}% of {len(right)} test images as their class, no more than chance: its "
            "classes are in another order than the data's, or model.json states another normalisation than in training; import "
            "it again, or pass --force"
        )
