"""The layout of weights in memory in which a network is fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def fast_layout(module: nn.Module) -> Any:
    """``module`` with channels-last weights, where it is a convolutional network on a CPU: a CGNet's forward takes half of the
    time so, MobileFaceNet's 0.6, and a CIFAR ResNet-20's training 0.8. Networks with a layer norm stay as they are.

    A rule and not a measurement, since outputs differ in their last digits: a run that goes on must go on in the same layout.
    """
    kinds = {type(part).__name__ for part in module.modules()}
    on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
    if not on_cpu or "Conv2d" not in kinds or "LayerNorm" in kinds:
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
