"""Layers whose outputs are class logits: found by shifting a channel; removing class weights; restoring the logits' scale."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedModelError

# Logits. The probability of a class is then at most exp(-10), 5e-5, divided by the number of remaining classes.
MARGIN = 10.0


@dataclass(frozen=True)
class ClassLayer:
    """A layer whose output is class logits, with its dotted name within the model."""

    name: str
    module: nn.Module
    is_last: bool = True  # only losses and predictions read its output; a cascade's first stage feeds the next


def check_linear(layer: nn.Module, name: str) -> None:
    """Raise :class:`UnsupportedModelError` for a layer, e.g. a cosine head, but a Linear or a convolution without groups."""
    linear = isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward
    convolution = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.groups == 1
    # A subclass with another forward may normalise class weights; a parametrized weight is recomputed at each call.
    if not (linear or convolution) or not isinstance(layer.weight, nn.Parameter):
        raise UnsupportedModelError(
            f"the last layer '{name}' is a {type(layer).__name__}; a forgotten class's weights can be removed from a Linear or "
            "a convolution without groups. Use keep_row=True (--keep-row) to publish them, though they are a template of the "
            "class"
        )


@torch.no_grad()
def neutralise_rows(layer: nn.Module, ids: Sequence[int], centre: bool = True, sigmoid: bool = False) -> None:
    """Replace the weights of the classes ``ids`` in a last layer by the mean of the remaining classes' weights, in place. The
    layer is a Linear with weight ``(C, D)``, or a convolution with weight ``(C, D, *kernel)``.

    The logit of mean weights is the mean of the remaining logits, which is never above the largest. :data:`MARGIN` is subtracted
    from its bias: the probability of a class of ``ids`` is at most ``exp(-MARGIN)`` over the number of remaining classes.
    Without a bias there is no margin: the class still never wins, but has an equal share if all other logits are equal.

    The class weights of a trained classifier sum to almost 0 (weight decay removes a component that softmax ignores), so the mean
    of the remaining ones is minus the forgotten one. With ``centre`` the mean is first subtracted from the remaining weights and
    biases, which changes none of their probabilities; the layer's output changes, so no later layer may read it. The new weights
    are then zero, and so is the sum of the others. With ``sigmoid`` the new weights are zero, the bias is ``-MARGIN``, and the
    others do not change. Raise :class:`UnsupportedModelError` for another kind of layer, ValueError if
    no class remains.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [1.0, 2.0], [-1.0, 0.0]]))
        >>> neutralise_rows(layer, [0])
        >>> layer.weight.tolist()
        [[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]
    """
    check_linear(layer, type(layer).__name__)
    if sigmoid and layer.bias is None:
        raise UnsupportedModelError("the last layer has no bias, without which a sigmoid of weights 0 is 0.5; add one")
    weight: Tensor = layer.weight  # type: ignore[assignment]
    removed = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
    removed[list(ids)] = True
    if bool(removed.all()):
        raise ValueError(f"got all {len(weight)} classes to remove; at least one must remain")
    for name, tensor in layer.named_parameters(recurse=False):
        mean = tensor[~removed].double().mean(0) * (not sigmoid)
        if centre and not sigmoid:
            tensor[~removed] = (tensor[~removed].double() - mean).to(tensor.dtype)
            mean = torch.zeros_like(mean)
        tensor[removed] = (mean - (MARGIN if name == "bias" else 0.0)).to(tensor.dtype)


@torch.no_grad()
def scale_rows(layer: nn.Module, factor: float, but: Sequence[int] = ()) -> None:
    """Multiply class weights and biases of a last layer, except those of the classes ``but``, by ``factor`` above 0, in place."""
    for tensor in layer.parameters(recurse=False):
        tensor[[i for i in range(len(tensor)) if i not in but]] *= factor


def match_scale(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> float | None:
    """Find the factor a > 0, 1e-3 to 1e3, with the least ``KL(softmax(teacher) || softmax(a * student))``, in the weighted mean
    over samples: logits ``(N, K)`` of both, weights ``(N,)``, not negative (None: ones). Only samples with the same prediction of
    both take part: on others the flattest scale would always be best. This is temperature scaling (Guo et al., ICML 2017, sec.
    4.2) with another model's probabilities as labels. Return None if no sample takes part, or the best factor lies outside."""
    weight = torch.ones(len(student)) if weight is None else weight
    agree = (student.argmax(1) == teacher.argmax(1)) & (weight > 0)
    s, p, w = student[agree].double(), teacher[agree].double().softmax(1), weight[agree].double()
    if not len(s):
        return None

    def slope(log_factor: float) -> float:  # of the loss, which is convex in the factor, so the slope rises
        return float((w * (((s * math.exp(log_factor)).softmax(1) - p) * s).sum(1)).sum())

    low, high = math.log(1e-3), math.log(1e3)
    if not slope(low) < 0 < slope(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(low)


LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
EXACT = 1e-2  # error as a share of the shift; float32 rounding is smaller
LARGE = 100.0  # factor of a shift that a rectifier after the layer cannot hide


@torch.no_grad()
def find_class_layers(
    network: nn.Module, outputs_of: Callable[[], Sequence[Tensor]], num_classes: int, nonlinear: bool = False
) -> list[list[str]]:
    """Find linear layers and convolutions whose outputs are class logits: a list of dotted names, perhaps empty, for each output.

    A layer's output is shifted in one channel: it is class logits if that moves the logit of this class by the same amount
    everywhere, relative to the others, whose differences stay. Between layer and logits there may be a resize, an average, a sum
    with another such layer (LR-ASPP's two), a temperature or a log-softmax. The network is in the mode in which it gives all its
    outputs; ``outputs_of`` runs it on a small batch, always the same one, and returns class logits ``(N, C, *locations)`` of the
    prediction, then of auxiliary outputs. With ``nonlinear``, if no layer moves the prediction's logit by the same amount
    everywhere (a rectifier or a tanh lies between), the layer that comes closest and does move it everywhere is taken.
    """
    before = outputs_of()
    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LINEAR)]
    names = [name for name, layer in linear if len(layer.weight) == num_classes]

    def unevenness(name: str, shift: float) -> list[float]:
        with network.get_submodule(name).register_forward_hook(partial(_shift_first, shift)):
            after = outputs_of()
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
