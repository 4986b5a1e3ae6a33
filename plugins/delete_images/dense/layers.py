"""The layers whose rows are the classes', found by what they do to the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError

from ..classifier import cast_for
from .outputs import run

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
EXACT = 1e-2  # of the shift; float32 logits are rounded below it


@torch.no_grad()
def find_class_layers(network: nn.Module, inputs: Tensor, num_classes: int) -> list[str]:
    """Names of the linear layers and convolutions whose outputs are class logits: of the prediction, then of auxiliary outputs.

    A layer's output is shifted in one channel: it is class logits where that moves the logit of this class by the same amount
    everywhere, against the others, whose differences stay. What lies between layer and logits may be a resize, a sum with
    another such layer (LR-ASPP's two), a temperature or a log-softmax.

    Args:
        network: In the mode in which it gives all its outputs.
        inputs: A small batch.
        num_classes: C.

    Raises:
        UnsupportedModelError: An output without such a layer.
    """
    inputs = cast_for(network, inputs.to(next(network.parameters()).device))
    outputs = run(network, inputs, num_classes)
    of_output: list[list[str]] = [[] for _ in outputs]
    for name, layer in network.named_modules():
        if not isinstance(layer, LINEAR) or layer.weight.shape[0] != num_classes:
            continue
        handle = layer.register_forward_hook(_shift)
        try:
            shifted = run(network, inputs, num_classes)
        finally:
            handle.remove()
        for number, (one, other) in enumerate(zip(outputs, shifted, strict=True)):
            if _only_first_moved(other.double() - one.double()):
                of_output[number].append(name)
    for number, found in enumerate(of_output):
        if not found:
            raise UnsupportedModelError(
                f"{type(network).__name__} has no linear layer or convolution whose outputs are the {num_classes} class logits "
                f"of its output {number + 1} of {len(outputs)}, so the rows of the forgotten classes cannot be taken out. Use "
                "keep_row=True to return the model with them, which are templates of the classes"
            )
    return list(dict.fromkeys(name for found in of_output for name in found))


def _shift(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
    shift = torch.zeros_like(output)
    shift.select(-1 if isinstance(layer, nn.Linear) else 1, 0).fill_(1.0)
    return output + shift


def _only_first_moved(change: Tensor) -> bool:
    """Of the differences ``(N, C, *locations)`` that a shift of channel 0 made."""
    against = change - change[:, 1:2]
    first, others = against[:, 0], against[:, 1:]
    return (
        bool(first.min() > 1e-6)
        and float(first.max() - first.min()) <= EXACT * float(first.max())
        and (float(others.abs().max()) <= EXACT * float(first.max()))
    )
