"""Last layer after unlearning: the forgotten classes' weights are removed, the logits' scale is restored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UnsupportedModelError

# Logits. The probability of a class is then at most exp(-10), 5e-5, divided by the number of remaining classes.
MARGIN = 10.0


@dataclass(frozen=True)
class ClassLayer:
    """A layer whose output is class logits.

    Attributes:
        name: Dotted name within the model.
        module: The layer.
        is_last: Nothing but losses and predictions read its output; a cascade's first stage feeds the next.
    """

    name: str
    module: nn.Module
    is_last: bool = True


def check_linear(layer: nn.Module, name: str) -> None:
    """Refuse a layer whose rows cannot be replaced.

    Raises:
        UnsupportedModelError: It is neither a Linear nor a convolution without groups: of a cosine head, say, the logits are
            no linear function of the rows.
    """
    linear = isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward
    convolution = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.groups == 1
    # A subclass with a forward of its own may normalise rows; a parametrized weight is made anew at each call.
    if not (linear or convolution) or not isinstance(layer.weight, nn.Parameter):
        raise UnsupportedModelError(
            f"the last layer '{name}' is a {type(layer).__name__}; the row of a forgotten class can be taken out of a Linear "
            "or a convolution without groups. Use keep_row=True (--keep-row) to publish the row, which is a template of the "
            "class"
        )


@torch.no_grad()
def neutralise_rows(layer: nn.Module, ids: Sequence[int], margin: float = MARGIN, centre: bool = True) -> None:
    """Replace the rows of ``ids`` in a last layer by the mean of the remaining rows, in place.

    The logit of a mean row is the mean of the remaining logits, which is never above the largest. ``margin`` is subtracted
    from its bias: the probability of a class of ``ids`` is at most ``exp(-margin)`` over the number of remaining classes. A
    layer without a bias takes no margin: there the class still never wins, but where no other class stands out it has an
    equal share.

    The rows of a trained classifier sum to almost nothing (weight decay takes away what softmax does not see), so the mean of
    the remaining rows is the forgotten one with a minus sign. With ``centre`` the remaining rows and biases first lose their
    mean, which changes none of their probabilities. The new rows are zero then, and the sum of the others tells nothing, either.

    Args:
        layer: A Linear with weight ``(C, D)``, or a convolution with weight ``(C, D, *kernel)``.
        ids: Classes whose rows go; at least one other remains.
        margin: In logits.
        centre: Take the mean out of the remaining rows. Only where the layer's output is nothing but logits: a later layer
            that reads the output would see the difference.

    Raises:
        UnsupportedModelError: Another kind of layer.
        ValueError: No class remains.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [1.0, 2.0], [-1.0, 0.0]]))
        >>> neutralise_rows(layer, [0])
        >>> layer.weight.tolist()
        [[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]
    """
    check_linear(layer, type(layer).__name__)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    gone = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
    gone[list(ids)] = True
    if bool(gone.all()):
        raise ValueError(f"all {len(weight)} rows are to be replaced; at least one must remain")
    for tensor in (weight, bias):
        if tensor is None:
            continue
        mean = tensor[~gone].double().mean(0)
        if centre:
            tensor[~gone] = (tensor[~gone].double() - mean).to(tensor.dtype)
            mean = torch.zeros_like(mean)
        tensor[gone] = (mean - (margin if tensor is bias else 0.0)).to(tensor.dtype)


@torch.no_grad()
def scale_rows(layer: nn.Module, factor: float, but: Sequence[int] = ()) -> None:
    """Multiply the rows and biases of a last layer, except those of ``but``, in place.

    Args:
        layer: As :func:`neutralise_rows`.
        factor: Above 0; the logits of those rows are multiplied by it.
        but: Classes whose rows stay.
    """
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    rows = [row for row in range(len(weight)) if row not in set(but)]
    for tensor in (weight, bias):
        if tensor is not None:
            tensor[rows] *= factor


def match_scale(student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> float | None:
    """Find the factor a > 0 with the least ``KL(softmax(teacher) || softmax(a * student))``, in the weighted mean over samples.

    Only samples for which both predict the same class take part: where they differ, no scale is right, and the flattest the least
    wrong. This is temperature scaling (Guo et al., ICML 2017, sec. 4.2) with another model's probabilities in place of labels.

    Args:
        student: Logits ``(N, K)``.
        teacher: Logits ``(N, K)``.
        weight: ``(N,)``, not negative; None for ones.

    Returns:
        The factor, between 1e-3 and 1e3; None if no sample with a weight above 0 takes part, or the best lies outside.
    """
    weight = torch.ones(len(student)) if weight is None else weight
    agree = (student.argmax(1) == teacher.argmax(1)) & (weight > 0)
    s, p, w = student[agree].double(), teacher[agree].double().softmax(1), weight[agree].double()
    if not len(s):
        return None

    def slope(log_factor: float) -> float:  # of the loss in the factor: it is convex, so this rises
        return float((w * (((s * math.exp(log_factor)).softmax(1) - p) * s).sum(1)).sum())

    low, high = math.log(1e-3), math.log(1e3)
    if not slope(low) < 0 < slope(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(low)
