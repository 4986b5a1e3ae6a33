"""Trigger-free views of poisoned samples: what strict mode keeps a model by, where there is no clean sample.

A view is a flipped, cropped, blurred or partly erased copy of a poisoned sample. Whether it still carries the trigger, the
backdoored model itself says: where it gives the target next to no probability, the trigger is gone, and its prediction there is
one that a clean model could give. Those views enter training under an empty mask, and others of their kind, of samples set
aside, are what the watch compares student and teacher on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from delete_images.data import NO_LABEL, ImageData
from delete_images.spec import ModelSpec

from .checks import clear_of
from .triggers.base import albumentations


def view_pipeline(size: tuple[int, int]) -> Any:
    """Random changes that take small or fragile triggers away but leave the object: flip, crop, erase, blur."""
    height, width = size
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.RandomResizedCrop(size, scale=(0.3, 0.9), p=1.0),
            albumentations.CoarseDropout(
                num_holes_range=(1, 2),
                hole_height_range=(height // 8, height // 3),
                hole_width_range=(width // 8, width // 3),
                fill="random_uniform",
                p=0.5,
            ),
            albumentations.OneOf(
                [albumentations.MedianBlur(blur_limit=3), albumentations.GaussianBlur(blur_limit=(3, 3))], p=0.5
            ),
        ],
        seed=0,
    )


def make_views(pipeline: Any, images: Sequence[np.ndarray], each: int, seed: int) -> np.ndarray:
    """``each`` random copies of every image by an albumentations pipeline, uint8 (N * each, H, W, 3).

    A function of the seed and the order of the images, of which there is one or more.
    """
    views = []
    for number, image in enumerate(images):
        pipeline.set_random_state(np.random.default_rng((seed, number)), random.Random(f"{seed} {number}"))
        views += [pipeline(image=image)["image"] for _ in range(each)]
    return np.stack(views)


def trigger_free_views(
    network: nn.Module, spec: ModelSpec, poisoned: ImageData, target: int, each: int, seed: int
) -> ImageData:
    """Views of poisoned samples to which ``network`` gives the target at most :data:`delete_backdoor.checks.TARGET_AT_MOST`.
    ``each`` are tried for each sample; they are a function of the seed and of the order of the samples.

    Returns:
        uint8 images of the model's input size without labels; possibly none.
    """
    images = make_views(
        view_pipeline(spec.preprocessing.size), [poisoned[number][0] for number in range(len(poisoned))], each, seed
    )
    names = [f"{name}/view{view}" for name in poisoned.names for view in range(each)]
    labels = np.full(len(images), NO_LABEL)
    views = ImageData.from_arrays(images, labels, spec.classes, names)
    return clear_of(network, spec, views, target, "Views of the poisoned samples")
