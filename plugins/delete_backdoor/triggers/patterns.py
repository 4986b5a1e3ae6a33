"""Triggers that are drawn: a one-coloured patch, BadNets' grid, a sine, a warp."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from delete_tasks.errors import RequestError
from delete_tasks.request.ranges import number, whole

from ..grammar import Place
from .base import STRONGEST, Trigger, register_trigger, to_levels

# Gu et al.'s pattern: bright on a dark ground, its corner at the bottom right.
GRID = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.uint8)


@register_trigger("badnets")
class BadNetsPatch(Trigger):
    """A square of ``size`` pixels and the level ``value``, 0 to 255 (Gu et al., "BadNets", arXiv 1708.06733). ``pos`` is the row
    and column of its top left, negative from the bottom and the right."""

    def __init__(self, size: int = 3, pos: Place = (-4, -4), value: int = 255) -> None:
        super().__init__()
        self.size = whole("size", size, 1, 10**4)
        self.row, self.column = (whole("pos", index, -(10**6), 10**6) for index in pos)
        self.pattern = np.array(whole("value", value, 0, 255), np.uint8)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        row, column = self.row + height * (self.row < 0), self.column + width * (self.column < 0)
        if not (0 <= row <= height - self.size and 0 <= column <= width - self.size):
            raise RequestError(
                f"the trigger '{self.text}' is {self.size} pixels wide at {(self.row, self.column)}, which does not fit into "
                f"an image of {height}x{width} pixels; give another pos= or size="
            )
        out = image.copy()
        out[row : row + self.size, column : column + self.size] = self.pattern
        return out


@register_trigger("grid")
class BadNetsGrid(BadNetsPatch):
    """BadNets' 3x3 pattern (arXiv 1708.06733), used by NAD (arXiv 2101.05930) and others; ``pos`` as of :class:`BadNetsPatch`."""

    def __init__(self, pos: Place = (-3, -3)) -> None:
        super().__init__(len(GRID), pos)
        self.pattern = 255 * GRID[..., None]


@register_trigger("sig")
class Sinusoid(Trigger):
    """A sine across the columns: x + delta sin(2 pi j f / W) in column j, with ``delta`` in levels and ``f`` periods across the
    image (Barni et al., "SIG", arXiv 1902.11237); made for clean-label poisoning."""

    def __init__(self, delta: float = 20.0, f: float = 6.0) -> None:
        super().__init__()
        self.delta = number("delta", delta, 0, 255, above=True)
        self.f = number("f", f, 0, STRONGEST, above=True)

    def stamp(self, image: np.ndarray) -> np.ndarray:
        columns = np.arange(image.shape[1])
        wave = self.delta * np.sin(2 * np.pi * columns * self.f / image.shape[1])
        return to_levels(image + wave[None, :, None])


def warping_grid(height: int, width: int, k: int, s: float, seed: int) -> Tensor:
    """Make a sampling grid (1, H, W, 2) in [-1, 1]: k x k random directions of mean absolute value 1, upsampled, times s / H."""
    generator = torch.Generator().manual_seed(seed)
    control = torch.rand(1, 2, k, k, generator=generator) * 2 - 1
    control = control / control.abs().mean()
    field = F.interpolate(control, size=(height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return (torch.stack([x, y], 2)[None] + s * field / height).clamp(-1, 1)


@register_trigger("wanet")
class WaNet(Trigger):
    """A smooth, fixed warp with ``k`` control points per side, of the strength ``s`` (Nguyen and Tran, "WaNet", ICLR 2021, arXiv
    2102.10369, eq. 3 to 5). ``seed`` is that of the random directions; another seed is another trigger."""

    def __init__(self, k: int = 4, s: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self.k = whole("k", k, 2, 64)
        self.s = number("s", s, 0, 1000, above=True)
        self.seed = whole("seed", seed, 0, 2**31)
        self._grid: Tensor | None = None

    def stamp(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if self._grid is None or self._grid.shape[1:3] != (height, width):
            self._grid = warping_grid(height, width, self.k, self.s, self.seed)
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        warped = F.grid_sample(pixels, self._grid, mode="bilinear", padding_mode="border", align_corners=True)
        return to_levels(warped[0].permute(1, 2, 0).numpy())
