"""Features of any network: what goes into a layer, and the layers whose outputs are maps, found by running the model once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RequestError
from .modes import untouched

LogitsOf = Callable[[nn.Module, Tensor], Tensor]
# They only blur or copy the map before them, so that one is looked at.
_NO_MAPS_OF_THEIR_OWN = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
)
STAGES = 4  # whose features are looked at, at most
_MOST_EXTRA_TOKENS = 5  # class, distillation and register tokens stand before those of the patches


class FeatureTap:
    """Catches what goes into a layer: the features on which a model's last layer decides.

    Example:
        ``with FeatureTap(layer) as tap: model(x)`` and then ``tap.features`` is the layer's last input.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.features: Tensor | None = None

    def __enter__(self) -> FeatureTap:
        self._handle = self.layer.register_forward_pre_hook(self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _catch(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.features = args[0].detach()


@dataclass(frozen=True)
class Layer:
    """A layer whose output is a map over the image.

    Attributes:
        name: Dotted, within the model.
        size: (h, w) of the map.
        order: 'NCHW', 'NHWC' or 'NTC', how the output is laid out.
        extra: Tokens before those of the image (NTC alone).
    """

    name: str
    size: tuple[int, int]
    order: str = "NCHW"
    extra: int = 0

    def as_map(self, output: Tensor) -> Tensor:
        """Return the layer's output as ``(N, C, h, w)``, copied, since later layers may change it in place."""
        if self.order == "NHWC":
            output = output.permute(0, 3, 1, 2)
        elif self.order == "NTC":
            output = output[:, self.extra :].transpose(1, 2).unflatten(2, self.size)
        return output.clone()


def find_layer(
    model: nn.Module, inputs: Tensor, classifier: nn.Module | None, logits_of: LogitsOf, name: str | None = None
) -> Layer:
    """Find the layer whose map attention explains.

    Without a name: the last map (more than one place) that is computed before the classifier, that the logits depend on at
    its places, and that is not merely a pooled copy of another. In a ResNet that is the last stage, in a VGG the activation
    before the last pooling, in a ViT the norm before the last attention (after it, only the class token counts), in a
    segmentation head what its last convolution reads.

    Args:
        model: Any model; it comes back as it was.
        inputs: One preprocessed input ``(1, 3, H, W)``.
        classifier: The model's last layer, see ``Task.classifier``.
        logits_of: ``(model, inputs) -> logits``.
        name: A layer the user names.

    Raises:
        RequestError: No such layer, or its output is no map, or nothing in the model is; the message lists candidates.
    """
    found = candidates(model, inputs, classifier, logits_of)
    if name is None:
        if not found:
            raise RequestError(
                f"no layer of {type(model).__name__} gives a map (N, C, h, w) that its logits depend on, so there is nothing "
                "to look at; Grad-CAM needs a convolutional network or a vision transformer"
            )
        return found[-1]
    for layer in found:
        if layer.name == name:
            return layer
    known = dict(model.named_modules())
    reason = (
        "is no layer of the model" if name not in known else "gives no map over the image on which the logits depend"
    )
    raise RequestError(
        f"layer '{name}' {reason}; candidates, the last is the default: {', '.join(layer.name for layer in found[-12:])}"
    )


def candidates(model: nn.Module, inputs: Tensor, classifier: nn.Module | None, logits_of: LogitsOf) -> list[Layer]:
    """Layers that can be looked at, in order of computation; of several with the same output, the outermost."""
    events: list[tuple[str, nn.Module, Tensor]] = []
    grads: dict[int, Tensor] = {}
    closed = [0]

    def record(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            if not any(output is tensor for _, _, tensor in events[-4:]):
                output.register_hook(partial(grads.__setitem__, id(output)))
            events.append((name, module, output))

    def close(*_: Any) -> None:
        closed[0] = len(events)

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: record(name, module, output))
        for name, module in model.named_modules()
        if name
    ]
    if classifier is not None:
        handles.append(classifier.register_forward_pre_hook(close))
    try:
        with untouched(model), torch.enable_grad():
            logits = logits_of(model, inputs.detach().clone().requires_grad_(True))
            # Any one logit may be constant; a random mixture of them is not.
            generator = torch.Generator().manual_seed(0)
            mixture = torch.randn(logits.shape, generator=generator).to(logits)
            (logits * mixture).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    return _choose(events[: closed[0] or None], grads, tuple(inputs.shape[-2:]))


def find_stages(model: nn.Module, inputs: Tensor, classifier: nn.Module | None, logits_of: LogitsOf) -> list[Layer]:
    """Stages of a network: the last map of each size before the classifier, at most four; of a network whose maps are all of one
    size (a vision transformer), as many of them evenly spread.

    Args:
        model, inputs, classifier, logits_of: See :func:`find_layer`.

    Returns:
        In order of computation; none where the network has no maps.
    """
    try:
        found = candidates(model, inputs, classifier, logits_of)
    except (RuntimeError, TypeError):
        return []  # no gradients get through it
    stages = list({layer.size: layer for layer in found}.values())
    if len(stages) == 1 and len(found) > 1:
        chosen = torch.linspace(0, len(found) - 1, min(STAGES, len(found))).round().long()
        stages = [found[int(place)] for place in chosen]
    return stages[-STAGES:]


def _choose(
    events: list[tuple[str, nn.Module, Tensor]], grads: dict[int, Tensor], size: tuple[int, ...]
) -> list[Layer]:
    calls = Counter(name for name, _, _ in events)
    groups: dict[int, list[tuple[str, nn.Module, Tensor]]] = {}
    for event in events:
        groups.setdefault(id(event[2]), []).append(event)
    found = []
    for key, group in groups.items():
        _, producer, tensor = group[0]
        if isinstance(producer, _NO_MAPS_OF_THEIR_OWN) or key not in grads:
            continue
        # The last is the outermost, or what changed the map in place (an activation).
        copies = (nn.Identity, *_NO_MAPS_OF_THEIR_OWN)
        names = [name for name, module, _ in group if calls[name] == 1 and not isinstance(module, copies)]
        layout = _layout(tuple(tensor.shape), size)
        if not names or layout is None:
            continue
        layer = Layer(names[-1], *layout)
        if bool(layer.as_map(grads[key]).any()):
            found.append(layer)
    return found


def _layout(shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[tuple[int, int], str, int] | None:
    """Size, order and extra tokens of an output of this shape, if it is a map over an input of ``size``."""
    if len(shape) == 4:
        for place, order in ((2, "NCHW"), (1, "NHWC")):
            height, width = shape[place : place + 2]
            if height * width > 1 and _same_aspect((height, width), size):
                return (height, width), order, 0
    if len(shape) == 3:
        for extra in range(_MOST_EXTRA_TOKENS + 1):
            tokens = shape[1] - extra
            height = round((tokens * size[0] / size[1]) ** 0.5) if tokens > 1 else 0
            if height > 1 and tokens % height == 0 and _same_aspect((height, tokens // height), size):
                return (height, tokens // height), "NTC", extra
    return None


def _same_aspect(small: tuple[int, int], size: tuple[int, ...]) -> bool:
    """Return True if both sides were divided by the same factor, up to rounding by strides."""
    factors = size[0] / small[0], size[1] / small[1]
    return max(factors) / min(factors) < 1.0 + 1.5 / min(small)
