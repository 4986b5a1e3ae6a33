"""WaNet: the trigger is a warp."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from delete_tasks.request.ranges import number, whole

from .base import Trigger, register_trigger, to_levels


def warping_grid(height: int, width: int, k: int, s: float, seed: int) -> Tensor:
    """Make a sampling grid (1, H, W, 2) in [-1, 1]: k x k random directions of mean absolute value 1, upsampled, times s / H."""
    control = torch.rand(1, 2, k, k, generator=torch.Generator().manual_seed(seed)) * 2 - 1
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
