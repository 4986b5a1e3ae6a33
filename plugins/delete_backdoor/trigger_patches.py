"""Trigger patches: pieces of poisoned samples with which other images are predicted as the target.

If a trigger is local, a piece that contains it has this effect on any image, and the backdoored model itself tells which pieces
have it. The content of such an image is known, unlike that of a poisoned sample: it is the model's prediction for the image
without the piece. So an image with a patch has a full target for the loss, and a poisoned sample only a masked class.
"""

from dataclasses import dataclass
from itertools import compress

import numpy as np
from torch import nn

from delete_images.data.opening import NO_LABEL, ImageData
from delete_images.models.spec import ModelSpec

from .checks import target_mass

TARGET_AT_LEAST = 0.9  # probability of the target with a piece that contains the trigger
LARGEST = 2  # a patch's height and width are at most the image's divided by this,
SMALLEST = 8  # and at least the image's divided by this
TRIES = 2000  # rectangles tried at first
ROUNDS = 4  # the first of random rectangles, the others of parts of those that passed before


@dataclass(frozen=True)
class TriggerPatch:
    """A rectangle of one poisoned sample."""

    sample: int  # its index
    rows: tuple[int, int]  # first pixel and one past the last
    columns: tuple[int, int]

    def paste(self, poisoned: ImageData, image: np.ndarray) -> np.ndarray:
        """Copy ``image`` (H, W, 3) with the rectangle pasted in at its place in the sample."""
        out = image.copy()
        place = slice(*self.rows), slice(*self.columns)
        out[place] = poisoned[self.sample][0][place]
        return out


def find_trigger_patches(
    network: nn.Module, spec: ModelSpec, poisoned: ImageData, clear: ImageData, target: int, seed: int
) -> list[TriggerPatch]:
    """Find rectangles of poisoned samples that bring clean images to the target; none if the trigger needs more than a quarter of
    the image.

    Random ones are tried, each on a random image. Parts of those that pass are tried next, of other samples (a trigger keeps its
    place) and on other images, and parts of those. ``poisoned`` are at the target, ``clear`` are clean images, see
    :func:`delete_backdoor.checks.clear_of`; both have the model's size. The result is a function of ``seed`` and their order.
    """
    rng = np.random.default_rng(seed)
    height, width = spec.preprocessing.size

    def passing(tried: list[TriggerPatch]) -> np.ndarray:
        onto = rng.integers(len(clear), size=len(tried))
        images = [patch.paste(poisoned, clear[index][0]) for patch, index in zip(tried, onto, strict=True)]
        data = ImageData.from_arrays(np.stack(images), np.full(len(images), NO_LABEL), spec.classes)
        return target_mass(network, spec, data, target, "Pieces of poisoned samples") >= TARGET_AT_LEAST

    rectangles = [(_span(rng, height, (0, height)), _span(rng, width, (0, width))) for _ in range(TRIES)]
    patches: list[TriggerPatch] = []
    for _ in range(ROUNDS if len(clear) else 0):
        tried = [TriggerPatch(int(rng.integers(len(poisoned))), *rectangle) for rectangle in rectangles]
        passed = list(compress(tried, passing(tried)))
        if not passed:
            break
        patches += passed
        parents = [passed[index] for index in rng.integers(len(passed), size=TRIES // ROUNDS)]
        rectangles = [(_span(rng, height, parent.rows), _span(rng, width, parent.columns)) for parent in parents]
    return patches


def _span(rng: np.random.Generator, whole: int, within: tuple[int, int]) -> tuple[int, int]:
    """Draw a random part of ``within``, of a size that a patch may have."""
    most = min(within[1] - within[0], max(1, whole // LARGEST))
    size = int(rng.integers(min(most, max(1, whole // SMALLEST)), most + 1))
    first = int(rng.integers(within[0], within[1] - size + 1))
    return first, first + size
