"""Features of any network: the input of a layer, and layers whose outputs are maps, found by running the model once."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RequestError
from .modes import untouched

LogitsOf = Callable[[nn.Module, Tensor], Tensor]
Event = tuple[str, nn.Module, Tensor]  # name, layer, output
# Layers that only blur or copy the map before them.
COPIES = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d)
STAGES = 4  # stages at most
_MOST_EXTRA_TOKENS = 5  # class, distillation and register tokens before those of the patches


class FeatureTap(ExitStack):
    """Context manager that records a layer's last input: ``with FeatureTap(layer) as tap: model(x)``, then ``tap.features``."""

    features: Tensor | None = None

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.callback(layer.register_forward_pre_hook(self._catch).remove)

    def _catch(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.features = args[0].detach()


@dataclass(frozen=True)
class Layer:
    """A layer whose output is a map over the image.

    Attributes:
        name: Dotted name within the model.
        size: (h, w) of the map.
        order: Layout of the output: 'NCHW', 'NHWC' or 'NTC'.
        extra: Number of tokens before those of the image (NTC alone).
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

    The default is the last map (more than one place) that is computed before the classifier, that the logits depend on at
    its places, and that is not merely a pooled copy of another. In a ResNet that is the last stage, in a VGG the activation
    before the last pooling, in a ViT the norm before the last attention (after it, only the class token counts), in a
    segmentation head the input of its last convolution.

    ``inputs`` are one preprocessed input ``(1, 3, H, W)`` of any model, whose mode and gradients are restored, ``classifier`` is
    its last layer, and ``logits_of`` returns logits of model and inputs. Raise :class:`RequestError`, which lists candidates, if
    the model has no map, or no layer of this ``name`` (None: the default) that gives one.
    """
    layers = candidates(model, inputs, classifier, logits_of)
    if not layers and name is None:
        raise RequestError(
            f"no layer of {type(model).__name__} gives a map (N, C, h, w) that its logits depend on; Grad-CAM needs a "
            "convolutional network or a vision transformer"
        )
    for layer in reversed(layers):
        if name in (None, layer.name):
            return layer
    exists = name in dict(model.named_modules())
    reason = "gives no map over the image on which the logits depend" if exists else "is no layer of the model"
    raise RequestError(
        f"layer '{name}' {reason}; candidates, the last is the default: {', '.join(layer.name for layer in layers[-12:])}"
    )


def candidates(model: nn.Module, inputs: Tensor, classifier: nn.Module | None, logits_of: LogitsOf) -> list[Layer]:
    """List the layers whose outputs are maps, in order of computation; of several with the same output, the outermost."""
    events: list[Event] = []
    grads: dict[int, Tensor] = {}
    before_classifier: int | None = None  # number of events

    def record(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            if not any(output is tensor for _, _, tensor in events[-4:]):
                output.register_hook(partial(grads.__setitem__, id(output)))
            events.append((name, module, output))

    def close(*_: Any) -> None:
        nonlocal before_classifier
        before_classifier = len(events)

    with ExitStack() as hooks, untouched(model), torch.enable_grad():
        for name, module in model.named_modules():
            if name:
                hooks.enter_context(module.register_forward_hook(partial(record, name)))
        if classifier is not None:
            hooks.enter_context(classifier.register_forward_pre_hook(close))
        logits = logits_of(model, inputs.detach().clone().requires_grad_(True))
        # A single logit may be constant; a random mixture of them is not.
        mixture = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        (logits * mixture).sum().backward()
    return _choose(events[: before_classifier or None], grads, tuple(inputs.shape[-2:]))


def find_stages(model: nn.Module, inputs: Tensor, classifier: nn.Module | None, logits_of: LogitsOf) -> list[Layer]:
    """Find the stages of a network in order of computation: the last map of each size before the classifier, at most four; if all
    maps have one size (a vision transformer), evenly spread maps; none without maps. Arguments are as of :func:`find_layer`."""
    try:
        layers = candidates(model, inputs, classifier, logits_of)
    except (RuntimeError, TypeError):
        return []  # the network passes no gradients
    stages = list({layer.size: layer for layer in layers}.values())
    if len(stages) == 1 and len(layers) > 1:
        indices = torch.linspace(0, len(layers) - 1, min(STAGES, len(layers))).round().long()
        stages = [layers[int(index)] for index in indices]
    return stages[-STAGES:]


def _choose(events: list[Event], grads: dict[int, Tensor], size: tuple[int, ...]) -> list[Layer]:
    calls = Counter(name for name, _, _ in events)
    outputs: dict[int, list[Event]] = {}
    for event in events:
        outputs.setdefault(id(event[2]), []).append(event)
    layers = []
    for key, writers in outputs.items():
        _, first, tensor = writers[0]
        # The last writer is the outermost module, or one that changed the map in place (an activation).
        named = [name for name, module, _ in writers if not isinstance(module, (nn.Identity, *COPIES))]
        names = [name for name in named if calls[name] == 1]
        layout = _layout(tuple(tensor.shape), size)
        if isinstance(first, COPIES) or key not in grads or not names or layout is None:
            continue
        layer = Layer(names[-1], *layout)
        if bool(layer.as_map(grads[key]).any()):
            layers.append(layer)
    return layers


def _layout(shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[tuple[int, int], str, int] | None:
    """Determine size, order and extra tokens of an output of this shape; None if it is no map over an input of ``size``."""
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
