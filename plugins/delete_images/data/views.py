"""Strong views of image tensors, whatever normalisation they went through: what distillation keeps the other classes by."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from delete_tasks.errors import RequestError
from delete_tasks.fileio.seeds import seed_all

from ..models.spec import Preprocessing
from .transforms import AUGMENT

RANGE_IMAGES = 1000  # from which the range of values is taken, at most


class TensorViews:
    """A pipeline of :mod:`delete_images.data.transforms` for images that are tensors already.

    The pipelines work on 8-bit RGB. Each channel's smallest and largest value in a sample of the images stand for 0 and 255,
    so what was normalised by mean and standard deviation goes back to (nearly) the pixels it came from, and returns.

    Args:
        name: 'strong' or 'plain'.
        images: ``(N, C, H, W)`` with one or three channels, from which the range is taken.
    """

    def __init__(self, name: str, images: Tensor) -> None:
        values = images.transpose(0, 1).flatten(1).double()
        shape = (images.shape[1], 1, 1)
        if images.is_floating_point():
            self.low, high = values.min(1).values.view(shape), values.max(1).values.view(shape)
        else:
            self.low, high = torch.zeros(shape), torch.full(shape, 255.0)
        self.span = torch.where(high > self.low, high - self.low, 1.0)
        self.size = (images.shape[2], images.shape[3])
        self.transform = AUGMENT[name](Preprocessing(self.size))

    def __call__(self, image: Tensor) -> Tensor:
        """``(C, H, W)`` to a view of the same shape, dtype and device; a function of PyTorch's random state."""
        pixels = ((image.detach().cpu().double() - self.low) / self.span * 255).round().clamp(0, 255).to(torch.uint8)
        channels = len(pixels)
        seen = self.transform(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
        back = self.low + seen[:channels].double() * self.span
        return (back if image.is_floating_point() else back.round()).to(image.device, image.dtype)


def are_images(samples: Tensor) -> bool:
    """Return True for a batch of pictures that :class:`TensorViews` can take: ``(N, 1 or 3, H, W)``."""
    return samples.ndim == 4 and samples.shape[1] in (1, 3) and min(samples.shape[2:]) >= 8


def choose_views(views: Any, default: str, first: Tensor) -> tuple[str, Any]:
    """Read ``views``: its name, and 'strong' or 'plain' or None or the caller's own function of an image. None is
    ``default`` where ``first``, a batch of samples, holds images, and 'none' where not.

    Raises:
        RequestError: Another value; or views by name of samples that are no images.
    """
    if views is None:
        views = default if are_images(first) else "none"
    if callable(views):
        return "your own", views
    if views not in AUGMENT:
        raise RequestError(
            f"views={views!r}; expected {', '.join(map(repr, AUGMENT))}, or a function of one image tensor"
        )
    if views != "none" and not are_images(first):
        raise RequestError(
            f"views={views!r} need images (3, H, W) or (1, H, W) of at least 8x8, and samples are of shape "
            f"{tuple(first.shape[1:])}; give views='none', or a function that makes a view of one sample"
        )
    return views, views if views != "none" else None


def viewed(images: Tensor, views: Callable[[Tensor], Tensor], seeds: list[int]) -> Tensor:
    """Make a view of each image; its randomness follows from its seed.

    Raises:
        RequestError: A view of another shape, or no tensor.
    """
    out = []
    for image, seed in zip(images, seeds, strict=True):
        seed_all(seed)
        view = views(image)
        if not isinstance(view, Tensor) or view.shape != image.shape:
            found = f"of shape {tuple(view.shape)}" if isinstance(view, Tensor) else f"a {type(view).__name__}"
            raise RequestError(
                f"views made {found} of an image of shape {tuple(image.shape)}; expected a tensor of that shape"
            )
        out.append(view)
    return torch.stack(out)
