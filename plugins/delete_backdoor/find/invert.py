"""Trigger inversion: whether a small patch sends all images to one class, from clean images alone. Neural Cleanse (IEEE S&P
2019), section IV: a mask, as small as possible, and a pattern are optimized; a backdoor's target needs far less of the image."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_images.data.transforms import eval_transform
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec, unit_normalization
from delete_tasks.display.progress import track
from delete_tasks.fileio.compute import multiplies_bfloat16
from delete_tasks.fileio.sampling import evenly_spread

from ..triggers.estimated import Estimated

STEPS, BATCH, IMAGES = 120, 24, 500  # optimizer steps of each class, images in each, images in all
WORKS = 0.9  # share of the images that a mask sends to its class
INDEX, TIMES = 3.0, 1.5  # anomaly index of a backdoor, and how many times the next class's mask, at least


@dataclass(frozen=True)
class Inversion:
    """Smallest mask of each class."""

    sizes: dict[str, float]  # pixels, the sum of the mask; of the whole image if none was found
    target: str  # class of the smallest
    index: float  # median absolute deviations by which the logarithm of its size lies below the median
    times: float  # size of the next class over its
    trigger: Estimated | None  # None if no mask was found for any class

    @property
    def backdoored(self) -> bool:
        return self.trigger is not None and self.index >= INDEX and self.times >= TIMES


def invert(network: nn.Module, spec: ModelSpec, data: ImageData) -> Inversion:
    """Search each class's smallest mask on up to :data:`IMAGES` clean images with labels, a function of these and the network."""
    data = data.subset(evenly_spread(len(data), IMAGES))
    images = pixels_of(spec, data).to(next(network.parameters()).device)
    found = {}
    for label in track(range(len(spec.classes)), len(spec.classes), "Trigger inversion"):
        others = images[torch.from_numpy(data.labels != label).to(images.device)]
        found[spec.classes[label]] = smallest_mask(network.eval(), spec, others, label)
    sizes = {name: size for name, (size, _) in found.items()}
    first, *rest = sorted(sizes, key=sizes.__getitem__)
    logs = np.log(list(sizes.values()))
    deviation = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    index = (float(np.median(logs)) - float(logs.min())) / max(deviation, 1e-6)
    times = sizes[rest[0]] / sizes[first]
    affine = found[first][1]
    if affine is not None and spec.preprocessing.channels == "BGR":
        affine = affine[..., ::-1]
    return Inversion(sizes, first, index, times, None if affine is None else Estimated.of(affine))


def pixels_of(spec: ModelSpec, data: ImageData) -> Tensor:
    """Read images at the model's size, in 0..1 and its order of channels: (N, 3, H, W)."""
    unit = replace(spec.preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), input_range=(0, 1), resize="stretch")
    transform = eval_transform(unit)
    return torch.stack([transform(as_seen(spec, data[index][0])) for index in range(len(data))])


def smallest_mask(
    network: nn.Module,
    spec: ModelSpec,
    images: Tensor,
    label: int,
    near: Tensor | None = None,
    generator: torch.Generator | None = None,
    steps: int = STEPS,
    share: float = WORKS,
) -> tuple[float, np.ndarray | None]:
    """Find the smallest mask that sends ``share`` of ``images`` (N, 3, H, W) in 0..1 to a class: its sum, and the trigger's scale
    and shift (2, H, W, 3), or None. The search starts from thin grey, or a random pattern where ``near`` (1, 1, H, W) is 1."""
    generator = generator or torch.Generator().manual_seed(0)
    mask, pattern = torch.full_like(images[:1, :1], -2.0), torch.zeros_like(images[:1])
    if near is not None:
        mask, pattern = 9 * near.to(mask) - 6, torch.randn(pattern.shape, generator=generator).to(pattern)
    searched = [mask.requires_grad_(), pattern.requires_grad_()]
    mean, std = (images.new_tensor(values)[:, None, None] for values in unit_normalization(spec.preprocessing))
    optimizer = torch.optim.Adam(searched, lr=0.2, betas=(0.5, 0.9))
    weight, works, size, best = 1e-2, 0.0, float(images.shape[-2] * images.shape[-1]), None
    for _ in range(steps if len(images) else 0):
        batch = images[torch.randint(len(images), (BATCH,), generator=generator).to(images.device)]
        cover, colour = mask.sigmoid(), pattern.sigmoid()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=multiplies_bfloat16()):
            logits = network((batch * (1 - cover) + cover * colour - mean) / std).float()
        loss = F.cross_entropy(logits, torch.full_like(logits[:, 0], label, dtype=torch.long)) + weight * cover.sum()
        mask.grad, pattern.grad = torch.autograd.grad(loss, searched)
        optimizer.step()
        works = 0.7 * works + 0.3 * float((logits.argmax(1) == label).float().mean())
        weight = min(max(weight * (1.3 if works > share else 1 / 1.3), 1e-5), 1.0)
        pixels = float(cover.detach().sum())
        if works > share and pixels < size:
            size, best = pixels, torch.cat([(1 - cover).expand_as(colour), 255 * cover * colour])
    return size, None if best is None else best.detach().permute(0, 2, 3, 1).cpu().numpy()
