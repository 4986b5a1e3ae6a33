"""Mixed precision on a CPU, too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU: the forward pass in bfloat16, weights and optimizer in float32.

    mmengine's ``AmpOptimWrapper`` refuses a machine without an accelerator. bfloat16 has the exponents of float32, so no gradient
    has to be scaled, and there is no state beside the optimizer's.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
