"""Dataset of a cleaning run: poisoned samples, each with samples of the retain set beside it under an empty mask."""

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import Tensor, nn
from torch.utils.data import Dataset

from delete_images.data.datasets import ImageForgetData
from delete_images.data.opening import NO_LABEL, ImageData, find_copies
from delete_images.data.transforms import eval_transform, strong_transform, train_transform
from delete_images.models.model_file import as_spec, build_model
from delete_images.models.spec import ModelSpec, unit_normalization
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.copies import Copies
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.fileio.compute import choose_device
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.ranges import SEED_MOST, number, whole

from .checks import ALLOWED, check_poisoned, check_retain_set, check_sizes, clear_of, predictions
from .poison import triggered
from .ranking import open_samples
from .triggers import parse_trigger
from .triggers.base import albumentations
from .triggers.estimated import Estimated, estimate_trigger

POISONED = "the poisoned samples"
HELD_MOST = 250  # held-out samples: enough to tell 5% from 1%, and reading them costs time
VIEWS_MOST = 4000  # views tried in all
POISONED_SHARE = 0.1  # of the items, if the trigger is estimated: the pasted samples do most, and cost less
REACHES = 20.0  # percent of retain samples that the estimated trigger brings to the target, at least


def load_original(spec: Any, weights: str, allow_import: bool = False) -> nn.Module:
    """Load the backdoored network in eval mode, on a GPU if there is one."""
    network = build_model(as_spec(spec), allow_import).float()
    load_weights(network, weights)
    device = choose_device()
    if device == "cuda":  # under torchrun each process has its GPU before the runner chooses it
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return network.to(device).eval()


@DATASETS.register_module()
class BackdoorDataset(ImageForgetData, Dataset):
    """Poisoned samples as a model takes them, with retain samples or trigger-free views beside them.

    An item is one poisoned sample and ``retain_each`` others, see :func:`delete_images.data.datasets.collate_images`. A part of
    both is held out: never trained on, and read by the watch.

    Args:
        poisoned: Data string or ranking file, see :func:`delete_backdoor.ranking.open_samples`.
        spec: The model's description, see :func:`delete_images.models.model_file.as_spec`.
        target: The attacker's class, by name or id.
        original: File of the backdoored model's weights.
        retain: Data string of images without a trigger; None is strict mode, with views of the poisoned samples instead.
        trigger: Trigger to put on each image of ``poisoned``, which are clean then, see
            :func:`delete_backdoor.triggers.parse_trigger`.
        retain_each: Samples of the retain set in each item.
        mix: Share of the retain samples that are a random mixture of two; the teacher has a prediction for mixtures as well.
        paste: Share of the retain samples with the trigger as it is estimated from the poisoned samples, which the teacher sees
            without it, see :func:`delete_backdoor.triggers.estimated.estimate_trigger`; none if less than :data:`REACHES` of
            the retain samples are predicted as the target with it.
        held: Share of poisoned and of retain samples that are held out, 250 of each at most.
        views: Views tried for each poisoned sample in strict mode, 4,000 in all at most.
        augment: Crop and flip the retain samples at random; if the trigger is estimated, also recolour or rotate half.
        augment_poisoned: Crop and flip the poisoned samples at random; a crop may cut the trigger off.
        seed: Seed of the held-out choice and of the views.
        force: Accept samples that the checks of predictions refuse.
        allow_import: As :func:`delete_images.models.model_file.load_model`.
    """

    def __init__(
        self,
        poisoned: str,
        spec: Any,
        target: str | int,
        original: str,
        retain: str | None = None,
        trigger: str | None = None,
        retain_each: int = 3,
        mix: float = 1.0,
        paste: float = 0.0,
        held: float = 0.2,
        views: int = 8,
        augment: bool = True,
        augment_poisoned: bool = True,
        seed: int = 0,
        force: bool = False,
        allow_import: bool = False,
    ) -> None:
        self.spec = as_spec(spec)
        self.class_names = self.spec.classes
        (self.target,) = resolve_classes([target], self.class_names)
        number("held", held, 0, 1, above=True, below=True)
        number("mix", mix, 0, 1)
        number("paste", paste, 0, 1)
        whole("retain_each", retain_each, 0, 1000)
        whole("views", views, 1, 1000)
        whole("seed", seed, 0, SEED_MOST)
        samples = open_samples(poisoned, self.class_names, "poisoned")
        if trigger is not None:
            samples = triggered(samples, parse_trigger(trigger), self.target)
        network = load_original(self.spec, original, allow_import)
        check_sizes(samples, self.spec, "poisoned")
        allowed = ALLOWED if trigger is None else 0.5  # an inverted trigger does not work on every image
        at_target = check_poisoned(network, self.spec, samples, self.target, force, allowed)
        self.left_out = int((~at_target).sum())
        # Images that are trained on or held out, without views of them, by name.
        self.user_samples = {POISONED: samples.subset(at_target)}
        self.poisoned, self.held_poisoned = _hold_out(self.user_samples[POISONED], held, seed)
        self.strict, self.copies = retain is None, list[Copies]()
        self.retain_name = "trigger-free views of the poisoned samples" if self.strict else "retain set"
        if retain is None:
            self.retain, self.held_retain = (
                trigger_free_views(network, self.spec, data, self.target, views, view_seed)
                for data, view_seed in ((self.poisoned, seed), (self.held_poisoned, seed + 1))
            )
        else:
            clean = open_samples(retain, self.class_names, "clean")
            fix = "give --retain other images, or leave it out"
            # A clean image looks like its poisoned copy, so that only exact copies count.
            kept, self.copies = find_copies(clean, "--retain", {POISONED: samples}, fix)
            clean = clean.subset(kept)
            check_sizes(clean, self.spec, "retain")
            check_retain_set(network, self.spec, clean, self.target, force)
            self.user_samples["--retain"] = clean
            self.retain, self.held_retain = _hold_out(clean, held, seed)
        self.retain_each = retain_each if len(self.retain) else 0
        self.paste = paste
        self.reach: float | None = None  # percent of the retain samples that the estimated trigger brings to the target
        self.estimated: Estimated | None = None
        if paste and len(self.retain):
            self._estimate(network)
        if paste and self.strict and self.estimated is None:
            raise RequestError(
                f"the trigger cannot be estimated from {len(self.retain)} trigger-free views of the poisoned samples: it brings "
                f"{self.reach or 0:.0f}% of them to the target ({REACHES:g} or more expected). Give samples without a trigger "
                "(--retain)"
            )
        self.mix = mix
        self.labels, self.names = np.full(len(self.poisoned), self.target), self.poisoned.names
        self.plain = eval_transform(self.spec)
        self.transform = train_transform(self.spec) if augment_poisoned else self.plain
        transform = strong_transform(self.spec) if self.estimated else train_transform(self.spec)
        self.retain_transform = transform if augment else self.plain

    forget_name = "poisoned samples"

    def _estimate(self, network: nn.Module) -> None:
        """Estimate the trigger, and keep it if it brings retain samples to the target."""
        estimated = estimate_trigger(self.poisoned, self.retain)
        reach, others = 0.0, clear_of(network, self.spec, self.retain, self.target, "Retain set")
        if len(others):
            pasted = predictions(network, self.spec, triggered(others, estimated, self.target), "Estimated trigger")
            reach = float((pasted == self.target).mean())
        self.reach = round(100 * reach, 2)
        if self.reach >= REACHES:
            self._use(estimated)

    def _use(self, estimated: Estimated) -> None:
        self.estimated = estimated
        order = -1 if self.spec.preprocessing.channels == "BGR" else 1
        scale, shift = torch.from_numpy(estimated.affine[..., ::order].copy()).permute(0, 3, 1, 2)
        self.affine = scale, shift / 255

    def forget_item(self, index: int) -> list[dict[str, Any]]:
        image, _ = self.poisoned[index]
        return [{"inputs": self.transform(image), "labels": int(self.labels[index]), "retain": False}]

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        forgets = self.estimated is None or float(torch.rand(())) < POISONED_SHARE
        samples = self.forget_item(index) if forgets else []
        for _ in range(self.retain_each + 1 - len(samples)):
            inputs, label = self._retain_sample()
            pasted = self.estimated is not None and float(torch.rand(())) < self.paste
            if self.mix and not pasted and float(torch.rand(())) < self.mix:
                share, (other, _) = float(torch.rand(())), self._retain_sample()
                inputs, label = share * inputs + (1 - share) * other, NO_LABEL
            sample = {"inputs": inputs, "labels": label, "retain": True}
            if pasted:
                sample |= {"inputs": self.pasted(inputs, *self.affine), "teacher_inputs": inputs, "labels": NO_LABEL}
            samples.append(sample)
        if self.estimated is not None:
            samples = [{"teacher_inputs": sample["inputs"], **sample} for sample in samples]
        return samples

    def counts(self) -> dict[str, Any]:
        """Count the samples of each kind."""
        kinds = ("poisoned", "held_poisoned", "retain", "held_retain")
        counts = {kind: len(getattr(self, kind)) for kind in kinds}
        return {"strict": self.strict, **counts, "left_out": self.left_out, "estimated_trigger_reach": self.reach}

    def pasted(self, inputs: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Put a trigger, in 0..1, on normalised inputs (3, H, W), which may be flipped, cropped or mixed."""
        mean, std = (torch.tensor(values)[:, None, None] for values in unit_normalization(self.spec.preprocessing))
        return ((scale * (inputs * std + mean) + shift).clamp(0, 1) - mean) / std

    def _retain_sample(self) -> tuple[Tensor, int]:
        # By PyTorch's generator, which the run seeds for each place in the stream.
        image, label = self.retain[int(torch.randint(len(self.retain), ()))]
        return self.retain_transform(image), label


def _hold_out(data: ImageData, share: float, seed: int) -> tuple[ImageData, ImageData]:
    """Divide data into training and held-out samples, both in the data's order."""
    held = min(max(1, round(share * len(data))), len(data) - 1, HELD_MOST)
    order: Sequence[int] = np.random.default_rng(seed).permutation(len(data)).tolist()
    return data.subset(sorted(order[held:])), data.subset(sorted(order[:held]))


def make_views(steps: Sequence[Any], images: Sequence[np.ndarray], each: int, seed: int) -> np.ndarray:
    """Make ``each`` random copies of each image by albumentations' steps, uint8 (N * each, H, W, 3), a function of the seed."""
    views, pipeline = [], albumentations.Compose(steps, seed=0)
    for index, image in enumerate(images):
        pipeline.set_random_state(np.random.default_rng((seed, index)), random.Random(f"{seed} {index}"))
        views += [pipeline(image=image)["image"] for _ in range(each)]
    return np.stack(views)


def trigger_free_views(
    network: nn.Module, spec: ModelSpec, poisoned: ImageData, target: int, each: int, seed: int
) -> ImageData:
    """Make views of poisoned samples, without labels and of the model's input size, to which ``network`` gives the target at most
    :data:`delete_backdoor.checks.TARGET_AT_MOST`; possibly none. A view is flipped, cropped, partly erased and blurred at random:
    this takes small or fragile triggers away and leaves the object, so the network predicts what a clean model could. At most
    ``each`` are tried per sample. They are a function of the seed and the order of the samples."""
    height, width = spec.preprocessing.size
    blur = [albumentations.MedianBlur(blur_limit=3), albumentations.GaussianBlur(blur_limit=(3, 3))]
    steps = [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.RandomResizedCrop((height, width), scale=(0.3, 0.9), p=1.0),
        albumentations.CoarseDropout(
            num_holes_range=(1, 2),
            hole_height_range=(height // 8, height // 3),
            hole_width_range=(width // 8, width // 3),
            fill="random_uniform",
            p=0.5,
        ),
        albumentations.OneOf(blur, p=0.5),
    ]
    each = max(1, min(each, VIEWS_MOST // len(poisoned)))
    images = make_views(steps, [poisoned[index][0] for index in range(len(poisoned))], each, seed)
    names = [f"{name}/view{view}" for name in poisoned.names for view in range(each)]
    views = ImageData.from_arrays(images, np.full(len(images), NO_LABEL), spec.classes, names)
    return clear_of(network, spec, views, target, "Views of the poisoned samples")
