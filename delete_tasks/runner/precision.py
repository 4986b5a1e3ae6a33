"""Mixed precision on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU: the forward pass in bfloat16, weights and optimizer in float32.

    mmengine's ``AmpOptimWrapper`` refuses a machine without an accelerator. bfloat16 has the exponents of float32, so
    gradients need no scaling, and the optimizer's state is complete.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
