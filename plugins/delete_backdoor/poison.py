"""Poisoned data sets: choice of the images, trigger and labels, and a file that marks the poisoned samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from delete_images.data.archives import Archive
from delete_images.data.opening import ImageData
from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import refuse_existing, replacing
from delete_tasks.request.ranges import number, whole

from .triggers import Trigger


class PoisonedDataset(ImageData):
    """Images of which some contain a trigger and have the target's label; can be used as any ImageData.

    All-to-one: every poisoned image is labelled ``target``. Without ``clean_label`` they are drawn from images of other
    classes and relabelled (BadNets and most others); with it from images of the target, whose label stays right (SIG).

    Args:
        data: Clean images.
        trigger: See :func:`delete_backdoor.triggers.parse_trigger`.
        target: The attacker's class, an index into ``data.class_names``.
        rate: Share of all images that are poisoned, above 0 and at most 1.
        seed: Seed of the choice.
        clean_label: Poison images of the target class and keep all labels.

    Attributes:
        poisoned: bool (N,), marks the poisoned images.
        true_labels: int64 (N,), labels of ``data``.

    Raises:
        RequestError: A rate outside (0, 1], an unknown class, an invalid seed, or fewer images to poison than the rate needs.
    """

    def __init__(
        self,
        data: ImageData,
        trigger: Trigger,
        target: int,
        rate: float = 0.1,
        seed: int = 0,
        clean_label: bool = False,
    ) -> None:
        self.true_labels = data.labels.copy()
        self.poisoned = _choose_poisoned(data, target, rate, seed, clean_label)
        self.trigger, self.target = trigger, target

        def read(index: int) -> np.ndarray:
            image, _ = data[index]
            return trigger.apply(image) if self.poisoned[index] else image

        labels = np.where(self.poisoned, target, self.true_labels)
        super().__init__(read, labels, data.class_names, data.names, data.skipped)

    def save(self, path: str | Path, inputs: Sequence[str] = ()) -> Path:
        """Write an .npz file that every command takes as DATA, with ``poisoned`` and ``true_labels`` beside x and y. Raise
        RequestError for a path that is one of the data strings or paths ``inputs``, or images of different sizes."""
        path = refuse_existing(path, files_of(inputs), overwrite=True, suffix=".npz")
        images = [self[index][0] for index in range(len(self))]
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise RequestError(
                f"the images have {len(shapes)} sizes ({shapes[0]}, {shapes[1]}, ...), and one file holds one; resize them"
            )
        arrays = {"x": np.stack(images), "y": self.labels, "classes": np.array(self.class_names)}
        arrays |= {"poisoned": self.poisoned, "true_labels": self.true_labels}
        arrays |= {"trigger": np.array(self.trigger.text), "target": np.array(self.target)}
        with replacing(path, sum(image.nbytes for image in images)) as temporary, open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return path


def _choose_poisoned(data: ImageData, target: int, rate: float, seed: int, clean_label: bool) -> np.ndarray:
    """Choose the images to poison, bool (N,)."""
    number("the poison rate", rate, 0, 1, above=True)
    whole("seed", seed, 0, 2**63)
    if not len(data):
        raise RequestError("there is no image to poison; choose others with ?class= or ?without=")
    if not 0 <= target < len(data.class_names):
        raise RequestError(f"the target {target} is outside 0..{len(data.class_names) - 1}")
    candidates = np.flatnonzero((data.labels == target) == clean_label)
    wanted = max(1, round(rate * len(data)))
    if wanted > len(candidates):
        which = f"{'are' if clean_label else 'are not'} of the target '{data.class_names[target]}'"
        raise RequestError(
            f"a rate of {rate:g} needs {wanted} of {len(data)} images, but only {len(candidates)} {which} and can be "
            f"poisoned; lower the rate to {len(candidates) / len(data):.3g}, or choose the images with ?class= or ?without="
        )
    chosen = np.zeros(len(data), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(candidates)[:wanted]] = True
    return chosen


def triggered(data: ImageData, trigger: Trigger, target: int) -> ImageData:
    """Put the trigger on every image of another class than the target and keep its true label: the data of ASR and RA."""
    return data.subset(data.labels != target).mapped(trigger.apply)


def files_of(texts: Sequence[str]) -> list[str]:
    """Collect the paths in data strings that have one."""
    return [path for path in (parse_spec(text).path for text in texts) if path]


def read_truth(text: str, data: ImageData) -> np.ndarray | None:
    """Read which samples of an opened data string are poisoned, bool (N,); None if its file does not say."""
    path = Path(parse_spec(text).path or "")
    if path.suffix != ".npz" or not path.is_file():
        return None
    archive = Archive(path)
    if "poisoned" not in archive.names:
        return None
    truth = archive.read("poisoned")
    # Names of samples from arrays end in the index in the file, whatever the string selects.
    indices = np.array([int(name.rpartition("/")[2]) for name in data.names], dtype=np.int64)
    if truth.ndim != 1 or truth.dtype.kind not in "biu" or indices.max(initial=-1) >= len(truth):
        raise RequestError(
            f"'{path}' has an array 'poisoned' of shape {truth.shape} and type {truth.dtype}; expected one boolean for each image"
        )
    return truth.astype(bool)[indices]
