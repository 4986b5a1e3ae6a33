"""Estimated triggers: what poisoned samples have in common, from their statistics and those of clean samples."""

from pathlib import Path

import numpy as np

from delete_images.data.archives import read_npy
from delete_images.data.opening import ImageData
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import replacing

from ..grammar import File
from .base import Trigger, register_trigger, to_levels

QUANTILES = np.linspace(0.01, 0.99, 50)
SCALES = np.linspace(0, 1, 21)
SURE = 3.0  # standard errors by which poisoned and clean samples differ where the trigger is


@register_trigger("estimated")
class Estimated(Trigger):
    """Each number of the image is scaled and shifted, scale * x + shift. The .npy ``file`` holds both, (2, H, W, 3), the shift in
    levels 0..255; ``backdoor find`` writes one. Patches have the scale 0, blended images 1 - alpha, added patterns 1."""

    def __init__(self, file: File) -> None:
        super().__init__()
        if not Path(file).is_file():
            raise FileNotFoundError(f"no estimated trigger at '{file}'; write one with: delete-tasks backdoor find")
        self.affine = read_npy(Path(file)).astype(np.float32)
        if self.affine.ndim != 4 or self.affine.shape[::3] != (2, 3) or not np.isfinite(self.affine).all():
            raise RequestError(f"'{file}' has the shape {self.affine.shape}; expected finite numbers (2, H, W, 3)")

    @classmethod
    def of(cls, affine: np.ndarray) -> "Estimated":
        trigger = cls.__new__(cls)
        Trigger.__init__(trigger)
        trigger.affine = affine.astype(np.float32)
        return trigger

    def save(self, path: Path) -> None:
        with replacing(path) as temporary, open(temporary, "xb") as file:
            np.save(file, self.affine)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        if image.shape != self.affine.shape[1:]:
            size, needed = (f"{s[0]}x{s[1]}" for s in (image.shape, self.affine.shape[1:]))
            raise RequestError(f"the estimated trigger is of images of {needed} pixels and this one has {size}")
        return to_levels(self.affine[0] * image + self.affine[1])


def estimate_trigger(poisoned: ImageData, clean: ImageData) -> Estimated:
    """Estimate the trigger of poisoned samples from clean ones of the same size, of any classes and not their originals. A
    trigger that changes each number x of an image to scale * x + shift, cut to 0..255, changes its distribution over images by
    the same function: scale and shift bring the clean samples' quantiles nearest to the poisoned ones' (least squares, without
    those cut off). Numbers whose mean and deviation are within :data:`SURE` standard errors of the clean ones' stay."""
    first, second = (np.stack([data[i][0] for i in range(len(data))]).astype(np.float32) for data in (clean, poisoned))
    error = np.sqrt(first.var(0) / len(first) + second.var(0) / len(second) + 1e-9)
    ratio = np.log(np.maximum(second.std(0), 0.1) / np.maximum(first.std(0), 0.1))
    differs = np.abs(second.mean(0) - first.mean(0)) > SURE * error
    differs |= np.abs(ratio) > SURE * np.sqrt(0.5 / len(first) + 0.5 / len(second))
    clean_at, poisoned_at = (np.quantile(images, QUANTILES, axis=0) for images in (first, second))
    inside = (poisoned_at > 0) & (poisoned_at < 255)
    inside |= ~inside.any(0)
    best = np.full(error.shape, np.inf)
    affine = np.stack([np.ones_like(error), np.zeros_like(error)])
    for scale in SCALES:
        shift = (poisoned_at - scale * clean_at).mean(0, where=inside)
        distance = ((np.clip(scale * clean_at + shift, 0, 255) - poisoned_at) ** 2).mean(0)
        better = differs & (distance < best)
        best = np.where(better, distance, best)
        affine = np.where(better, np.stack([np.full_like(shift, scale), shift]), affine)
    return Estimated.of(affine)
