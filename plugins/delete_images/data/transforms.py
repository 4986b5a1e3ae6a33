"""Albumentations pipelines for a model's preprocessing, whose randomness is a function of PyTorch's random state; strong views of
image tensors of any normalisation, and mixes of views, on which distillation preserves the other classes."""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.seeds import seed_all

from ..models.spec import ModelSpec, Preprocessing, unit_normalization

MIXED = 0.5  # share of the strong views that are mixed
RANGE_IMAGES = 1000  # at most, from which the range of values is computed


def load_albumentations(extra: str = "images") -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # on import it looks for a newer version online
    return require("albumentations", extra)


class ImageTransform:
    """Albumentations pipeline from one uint8 RGB image (H, W, 3) to a float32 tensor (3, H', W'); the last step is the
    normalisation of ``pre``. albumentations 2 has its own random generators, which neither ``torch.manual_seed`` nor a worker's
    seed sets; so each call seeds them from PyTorch's global generator, and the result is a function of its state alone."""

    def __init__(self, steps: Sequence[Any], pre: Preprocessing, is_random: bool = True) -> None:
        albumentations, self.bgr = load_albumentations(), pre.channels == "BGR"
        order = -1 if self.bgr else 1  # the pipeline is in RGB
        mean, std = (tuple(values[::order]) for values in unit_normalization(pre))
        normalization = albumentations.Normalize(mean=mean, std=std, max_pixel_value=255.0)
        self.pipeline = albumentations.Compose([*steps, normalization], seed=0)
        self.is_random = is_random

    def __call__(self, image: np.ndarray) -> Tensor:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(
                f"a transform got an image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB"
            )
        if self.is_random:
            seed = int(torch.randint(2**31 - 1, ()).item())
            # One generator for all steps: with set_random_seed each has its own of the same seed, so that the flip would
            # depend on the place of the crop.
            self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = self.pipeline(image=image)["image"]
        if self.bgr:
            out = out[..., ::-1]
        return torch.from_numpy(np.ascontiguousarray(out.transpose(2, 0, 1), dtype=np.float32))


def _resize(pre: Preprocessing) -> list[Any]:
    albumentations = load_albumentations()
    height, width = pre.size
    if pre.resize == "stretch":
        # Area averaging when shrinking, because cv2's linear interpolation would alias.
        return [albumentations.Resize(height, width, area_for_downscale="image")]
    shorter = (round(height / pre.crop_fraction), round(width / pre.crop_fraction))
    resized = albumentations.SmallestMaxSize(max_size_hw=shorter, area_for_downscale="image")
    return [resized, albumentations.CenterCrop(height, width)]


def eval_transform(spec: ModelSpec | Preprocessing) -> ImageTransform:
    """Make the preprocessing: uint8 RGB (H, W, 3) array -> float32 (3, height, width) tensor in the model's channel order."""
    pre = spec.preprocessing if isinstance(spec, ModelSpec) else spec
    return ImageTransform(_resize(pre), pre, is_random=False)


def _crops(pre: Preprocessing) -> list[Any]:
    height, width = pre.size
    albumentations = load_albumentations()
    if max(height, width) > 64:
        return [albumentations.RandomResizedCrop((height, width), scale=(0.35, 1.0), area_for_downscale="image")]
    return [*_resize(pre), albumentations.Pad(padding=_eighth(pre)), albumentations.RandomCrop(height, width)]


def _eighth(pre: Preprocessing) -> tuple[int, int]:
    height, width = pre.size
    return max(1, width // 8), max(1, height // 8)


def train_transform(spec: ModelSpec | Preprocessing, crop: bool = True) -> ImageTransform:
    """Make :func:`eval_transform` with a random horizontal flip and, with ``crop``, a random crop: up to 64 pixels of the image
    with zeros around, an eighth of the size wide (CIFAR's recipe); above, a random part of 35% or more of the area."""
    pre = spec.preprocessing if isinstance(spec, ModelSpec) else spec
    return ImageTransform([*(_crops(pre) if crop else _resize(pre)), load_albumentations().HorizontalFlip(p=0.5)], pre)


def strong_transform(spec: ModelSpec | Preprocessing) -> ImageTransform:
    """Make :func:`train_transform` for half of the images, and for the others changes that make them look like other classes,
    whose predictions distillation from the forget set alone then preserves. Labels do not fit such images."""
    pre = spec.preprocessing if isinstance(spec, ModelSpec) else spec
    height, width = pre.size
    a = load_albumentations()
    place = [
        a.RandomResizedCrop((height, width), scale=(0.15, 1.0), area_for_downscale="image", p=1.0),
        a.Pad(padding=_eighth(pre), border_mode=4, p=1.0),  # mirrored, and cropped below
        a.Rotate(180, border_mode=4, p=1.0),
    ]
    colour = [
        a.InvertImg(p=1.0),
        a.ChannelShuffle(p=1.0),
        a.ToGray(p=1.0),
        a.Solarize(p=1.0),
        a.ColorJitter(0.8, 0.8, 0.8, 0.3, p=1.0),
        a.GaussianBlur((3, 7), p=1.0),
    ]
    changed = [*_resize(pre), a.OneOf(place, p=0.8), a.OneOf(colour, p=0.7), a.RandomCrop(height, width)]
    either = a.OneOf([a.Sequential(_crops(pre), p=1.0), a.Sequential(changed, p=1.0)], p=1.0)
    return ImageTransform([either, a.HorizontalFlip(p=0.5)], pre)


# Views of a forget set by name.
AUGMENT: dict[str, Callable[[Any], ImageTransform]]
AUGMENT = {"strong": strong_transform, "plain": train_transform, "none": eval_transform}


class TensorViews:
    """Pipeline of this module for images that are tensors, ``(N, C, H, W)`` with one or three channels; ``name`` is 'strong' or
    'plain'. The pipelines need 8-bit RGB: each channel's smallest and largest value in ``images`` are mapped to 0 and 255, so
    that images normalised by mean and standard deviation become (nearly) their pixels again; the view is mapped back."""

    def __init__(self, name: str, images: Tensor) -> None:
        self.mixes = name == "strong"
        values = images.transpose(0, 1).flatten(1).double()
        shape = (images.shape[1], 1, 1)
        if images.is_floating_point():
            self.low, high = values.min(1).values.view(shape), values.max(1).values.view(shape)
        else:
            self.low, high = torch.zeros(shape), torch.full(shape, 255.0)
        self.span = torch.where(high > self.low, high - self.low, 1.0)
        self.transform = AUGMENT[name](Preprocessing((images.shape[2], images.shape[3])))

    def __call__(self, image: Tensor) -> Tensor:
        """Make a view of an image ``(C, H, W)``, of the same shape, dtype and device; a function of PyTorch's random state."""
        pixels = ((image.detach().cpu().double() - self.low) / self.span * 255).round().clamp(0, 255).to(torch.uint8)
        view = self.transform(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
        values = self.low + view[: len(pixels)].double() * self.span
        return (values if image.is_floating_point() else values.round()).to(image.device, image.dtype)


def are_images(samples: Tensor) -> bool:
    """Return True for a batch of images that :class:`TensorViews` supports: ``(N, 1 or 3, H, W)``."""
    return samples.ndim == 4 and samples.shape[1] in (1, 3) and min(samples.shape[2:]) >= 8


def choose_views(views: Any, default: str, first: Tensor) -> tuple[str, Any]:
    """Check ``views`` for samples of which ``first`` is a batch; None means ``default`` for images and 'none' for other samples.
    Return the name; and 'strong', 'plain', the caller's function of an image, or None for no views."""
    if views is None:
        views = default if are_images(first) else "none"
    if callable(views):
        return "your own", views
    if not isinstance(views, str) or views not in AUGMENT:
        raise RequestError(f"views={views!r}; expected {', '.join(map(repr, AUGMENT))}, or a function of one tensor")
    if views != "none" and not are_images(first):
        raise RequestError(
            f"views={views!r} need images (3, H, W) or (1, H, W) of at least 8x8, but the samples have shape "
            f"{tuple(first.shape[1:])}; give views='none', or a function that makes a view of one sample"
        )
    return views, views if views != "none" else None


def viewed(images: Tensor, views: Callable[[Tensor], Tensor], seeds: list[int]) -> Tensor:
    """Make a view of each image with its seed; raises RequestError for a view of another shape."""
    made = []
    for image, seed in zip(images, seeds, strict=True):
        seed_all(seed)
        view = views(image)
        if not isinstance(view, Tensor) or view.shape != image.shape:
            result = f"shape {tuple(view.shape)}" if isinstance(view, Tensor) else f"a {type(view).__name__}"
            raise RequestError(f"views returned {result} for an image of shape {tuple(image.shape)}; expected the same")
        made.append(view)
    return torch.stack(made)


def mix(image: Tensor, partner: Tensor) -> Tensor:
    """Mix two images ``(C, H, W)``: a blend (mixup, arXiv 1710.09412), or a rectangle of the second in the first (CutMix, arXiv
    1905.04899). The original sees more classes in mixes (arXiv 2112.00725). They are a function of PyTorch's random state."""
    blends, share, height, width, row, column = torch.rand(6).tolist()
    if blends < 0.5:
        blend = torch.lerp(partner.float(), image.float(), 0.25 + 0.5 * share)
        return (blend if image.is_floating_point() else blend.round()).to(image.dtype)
    _, tall, wide = image.shape
    rows, columns = int(tall * (0.25 + 0.5 * height)), int(wide * (0.25 + 0.5 * width))
    top, left = int(row * (tall - rows + 1)), int(column * (wide - columns + 1))
    mixed, part = image.clone(), np.s_[:, top : top + rows, left : left + columns]
    mixed[part] = partner[part]
    return mixed
