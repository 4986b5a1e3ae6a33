"""Layers whose outputs are class logits, found by shifting a channel and comparing the logits."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
EXACT = 1e-2  # error as a share of the shift; float32 rounding is smaller
LARGE = 100.0  # factor of a shift that a rectifier after the layer cannot hide


@torch.no_grad()
def find_class_layers(
    network: nn.Module, outputs_of: Callable[[], Sequence[Tensor]], num_classes: int, nonlinear: bool = False
) -> list[list[str]]:
    """Find the linear layers and convolutions whose outputs are class logits, for each output of a network: their dotted names,
    an empty list for an output without such a layer.

    A layer's output is shifted in one channel: it is class logits if that moves the logit of this class by the same amount
    everywhere, relative to the others, whose differences stay. Between layer and logits there may be a resize, an average, a sum
    with another such layer (LR-ASPP's two), a temperature or a log-softmax.

    The network is in the mode in which it gives all its outputs. ``outputs_of`` runs it on a small batch, always the same one,
    and returns class logits ``(N, C, *locations)`` of the prediction, then of auxiliary outputs. With ``nonlinear``, if no layer
    moves the prediction's logit by the same amount everywhere (a rectifier or a tanh lies between them), the layer that comes
    closest and does move it everywhere is taken.
    """
    before = outputs_of()
    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LINEAR)]
    names = [name for name, layer in linear if len(layer.weight) == num_classes]

    def unevenness(name: str, shift: float) -> list[float]:
        handle = network.get_submodule(name).register_forward_hook(partial(_shift_first, shift))
        try:
            after = outputs_of()
        finally:
            handle.remove()
        return [_unevenness(new.double() - old.double()) for old, new in zip(before, after, strict=True)]

    uneven = {name: unevenness(name, 1.0) for name in names}
    layers = [[name for name in names if uneven[name][number] <= EXACT] for number in range(len(before))]
    if nonlinear and not layers[0]:
        nearly = {name: unevenness(name, LARGE)[0] for name in names}
        layers[0] = [name for name in names if nearly[name] == min(nearly.values()) and nearly[name] < 1][:1]
    return layers


def _shift_first(shift: float, layer: nn.Module, _: Any, output: Tensor) -> Tensor:
    change = torch.zeros_like(output)  # at least of the logits' size, so that rounding does not hide it
    change.select(-1 if isinstance(layer, nn.Linear) else 1, 0).fill_(shift * max(1.0, float(output.abs().max())))
    return output + change


def _unevenness(change: Tensor) -> float:
    """Compare a change of logits ``(N, C, *locations)`` with one that raises the first class alone, equally everywhere: 0 for
    such a change, below 1 if the first class rises everywhere and more than others, infinity if it does not."""
    relative = change - change[:, 1:2]
    first, others = relative[:, 0], relative[:, 1:]
    if float(first.min()) <= 1e-6:
        return float("inf")
    return max(float(first.max() - first.min()), float(others.abs().max())) / float(first.max())
