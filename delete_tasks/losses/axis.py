"""Where places along an axis lie between the inputs that are interpolated."""

from __future__ import annotations

import torch
from torch import Tensor

EVERY = slice(None)


class Axis:
    """How places along one axis lie between inputs: interval ``i`` of ``inputs + 1`` lies between inputs ``i - 1`` and ``i``
    (the first and the last beyond the outer ones).

    Attributes:
        first: int32 ``(inputs + 2,)``: places ``first[i] .. first[i + 1] - 1`` lie in interval ``i``.
        share: float32 ``(outputs,)``, of the later input in each place.
        earlier, later: int64 ``(outputs,)``, the inputs that each place lies between.
    """

    def __init__(self, inputs: int, outputs: int, align_corners: bool) -> None:
        places = torch.arange(outputs, dtype=torch.float32)
        if align_corners:
            at = places * ((inputs - 1) / (outputs - 1) if outputs > 1 else 0.0)
        else:
            at = (places + 0.5) * torch.tensor(inputs / outputs, dtype=torch.float32) - 0.5
        below = at.floor()
        self.share = at - below
        interval = (below.to(torch.int32) + 1).clamp_(0, inputs)
        self.earlier, self.later = (interval - 1).clamp(min=0).long(), interval.clamp(max=inputs - 1).long()
        self.first = torch.searchsorted(interval, torch.arange(inputs + 2, dtype=torch.int32)).to(torch.int32)

    def take(self, values: Tensor, dim: int, places: slice | Tensor = EVERY) -> Tensor:
        """``values`` interpolated along dimension ``dim``, at some of the places alone."""
        shape = [-1 if d == dim % values.ndim else 1 for d in range(values.ndim)]
        early, late = (values.index_select(dim, part[places].to(values.device)) for part in (self.earlier, self.later))
        return torch.lerp(early, late, self.share[places].to(values).view(shape))
