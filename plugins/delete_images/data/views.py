"""Strong views of image tensors of any normalisation, and mixes of views, on which distillation preserves the other classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from delete_tasks.errors import RequestError
from delete_tasks.fileio.seeds import seed_all

from ..models.spec import Preprocessing
from .transforms import AUGMENT

RANGE_IMAGES = 1000  # at most, from which the range of values is computed


class TensorViews:
    """Pipeline of :mod:`delete_images.data.transforms` for images that are tensors.

    The pipelines need 8-bit RGB. Each channel's smallest and largest value in ``images`` are mapped to 0 and 255, so that images
    normalised by mean and standard deviation become (nearly) their pixels again; the view is mapped back. ``images`` are
    ``(N, C, H, W)`` with one or three channels; ``name`` is 'strong' or 'plain'.
    """

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
        raise RequestError(
            f"views={views!r}; expected {', '.join(map(repr, AUGMENT))}, or a function of one image tensor"
        )
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
            raise RequestError(
                f"views returned {result} for an image of shape {tuple(image.shape)}; expected a tensor of that shape"
            )
        made.append(view)
    return torch.stack(made)


MIXED = 0.5  # share of the strong views that are mixed


def mix(image: Tensor, partner: Tensor) -> Tensor:
    """Mix two images ``(C, H, W)``: a blend (mixup, arXiv 1710.09412), or the first with a rectangle of the second (CutMix, arXiv
    1905.04899).

    The original sees far more classes in mixes than in views of single images, so that few images of one class preserve the
    others, as in distillation from a single image (arXiv 2112.00725). The result is a function of PyTorch's random state.
    """
    blends, share, height, width, row, column = torch.rand(6).tolist()
    if blends < 0.5:
        blend = torch.lerp(partner.float(), image.float(), 0.25 + 0.5 * share)
        return (blend if image.is_floating_point() else blend.round()).to(image.dtype)
    rows, columns = (
        int(size * (0.25 + 0.5 * part)) for size, part in zip(image.shape[1:], (height, width), strict=True)
    )
    top, left = int(row * (image.shape[1] - rows + 1)), int(column * (image.shape[2] - columns + 1))
    mixed = image.clone()
    mixed[:, top : top + rows, left : left + columns] = partner[:, top : top + rows, left : left + columns]
    return mixed
