"""Class logits ``(N, C, *locations)`` in whatever a network returns, the auxiliary heads' among them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.model.class_layers import find_class_layers

from .classifier import cast_for, describe

OUTPUT_KEYS = ("logits", "out", "aux")
AUXILIARY = "auxiliary_head"  # transformers' models run it and use what it gives for their own loss alone
MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
# By how the names of their classes begin, and by what they return.
QUERY_MODELS = ("MaskFormer", "Mask2Former", "OneFormer", "Eomt", "Detr", "ConditionalDetr", "DeformableDetr", "RTDetr")
QUERY_KEYS = ("class_queries_logits", "masks_queries_logits", "pred_boxes", "pred_masks")
QUERIES = (
    "its class logits belong to queries, not to locations: each query proposes a region of its own, and those of the original "
    "and of the model being changed need not be the same, so there is no place at which the two could be compared. Give a model "
    "with a row of class logits at every location, such as SegFormer, UperNet, DPT, FCN or a U-Net"
)


def refuse_queries(model: nn.Module, output: Any = None) -> None:
    """Refuse models that classify queries.

    Args:
        model: Known by the name of its class or of one above it.
        output: What it returned, whose keys tell, too.

    Raises:
        UnsupportedModelError: It does.
    """
    named = any(kind.__name__.startswith(QUERY_MODELS) for kind in type(model).__mro__)
    if named or (isinstance(output, Mapping) and any(key in output for key in QUERY_KEYS)):
        raise UnsupportedModelError(f"{type(model).__name__} cannot be unlearned: {QUERIES}")


def class_maps(output: Any, num_classes: int | None = None) -> list[Tensor]:
    """Find the class logits in a network's output, the prediction's first.

    Args:
        output: A tensor ``(N, C, *locations)``; a tuple or list with one or more such tensors of the same C; or a dict or object
            with them under ``logits``, or ``out`` and ``aux``.
        num_classes: C; None takes the first tensor's.

    Raises:
        UnsupportedModelError: There are none, or there is a single class.
    """
    parts = parts_of(output)
    maps = [part for part in parts if isinstance(part, Tensor) and part.ndim >= 3 and part.is_floating_point()]
    if num_classes is None and maps:
        num_classes = maps[0].shape[1]
    maps = [part for part in maps if part.shape[1] == num_classes]
    if not maps:
        wanted = "C" if num_classes is None else str(num_classes)
        raise UnsupportedModelError(
            f"the model returns {describe(output)}, in which there are no class logits (N, {wanted}, *locations); expected a "
            "floating-point tensor of that shape, a tuple that holds one, or a dict with it under 'logits' or 'out'. Wrap the "
            "model in a module that returns it"
        )
    if num_classes == 1:
        raise UnsupportedModelError(
            f"the model returns {describe(output)}: with its single output (C=1) forgotten, nothing is left to predict. "
            "Give it two outputs (the logits 0 and x say the same as a single logit x)"
        )
    return maps


def parts_of(output: Any) -> list[Any]:
    """List the parts of a network's output that may be class logits, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [output.get(key) for key in OUTPUT_KEYS]
    if isinstance(output, (tuple, list)):
        return list(output)
    return [getattr(output, key, None) for key in OUTPUT_KEYS]


def refuse_probabilities(logits: Tensor) -> None:
    """Refuse what a softmax has gone over: distillation needs what goes into it.

    Raises:
        UnsupportedModelError: Everywhere the values are not negative and sum to 1.
    """
    if bool((logits >= 0).all()) and bool(((logits.float().sum(1) - 1).abs() < 1e-3).all()):
        raise UnsupportedModelError(
            "the model returns probabilities, which sum to 1 at every location; expected logits. Build it without its last "
            "softmax (activation=None)"
        )


def run(network: nn.Module, inputs: Tensor, num_classes: int) -> list[Tensor]:
    """Compute all class logits of a batch, each ``(N, C, *locations)`` of the prediction's size, the prediction's first.

    Raises:
        UnsupportedModelError: As :func:`class_maps`; or an auxiliary head that the network's forward does not run.
    """
    with _auxiliary(network) as caught:
        maps = class_maps(network(inputs), num_classes)
    for output in caught:
        maps += class_maps(output, num_classes)
    return [maps[0], *(resize(part, maps[0].shape[2:]) for part in maps[1:])]


def class_layers_of(network: nn.Module, inputs: Tensor, num_classes: int) -> list[str]:
    """Find the layers that output class logits, see :func:`delete_tasks.model.class_layers.find_class_layers`.

    Args:
        network: In the mode in which it gives all its outputs.
        inputs: A small batch.
        num_classes: C.

    Returns:
        Dotted names, the prediction's first.

    Raises:
        UnsupportedModelError: An output without such a layer.
    """
    inputs = cast_for(network, inputs.to(next(network.parameters()).device))
    layers = find_class_layers(network, partial(run, network, inputs, num_classes), num_classes)
    if [] in layers:
        raise UnsupportedModelError(
            f"{type(network).__name__} has no linear layer or convolution whose outputs are the {num_classes} class logits "
            f"of its output {layers.index([]) + 1} of {len(layers)}, so the rows of the forgotten classes cannot be taken out. "
            "Use keep_row=True to return the model with them, which are templates of the classes"
        )
    return list(dict.fromkeys(chain(*layers)))


@contextmanager
def _auxiliary(network: nn.Module) -> Iterator[list[Any]]:
    """Compute the auxiliary head's logits of networks that do not return them."""
    caught: list[Any] = []
    head = getattr(network, AUXILIARY, None)
    if not isinstance(head, nn.Module):
        yield caught
        return
    handle = head.register_forward_hook(lambda _, inputs, output: caught.append(output))
    try:
        yield caught
    finally:
        handle.remove()
    if not caught:
        raise UnsupportedModelError(
            f"the forward of {type(network).__name__} does not run its {AUXILIARY}, which would keep the class; take it off "
            f"(model.{AUXILIARY} = None). For a model of MMSegmentation, use delete-tasks segmentation forget"
        )


def resize(logits: Tensor, size: Any) -> Tensor:
    """Resize logits ``(N, C, *locations)`` by linear interpolation, corners not aligned."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    if logits.ndim not in MODES or len(size) != logits.ndim - 2:
        raise UnsupportedModelError(
            f"logits of shape {tuple(logits.shape)} cannot be brought to {tuple(size)}; only one, two or three dimensions of "
            "locations can, and as many as there are"
        )
    return F.interpolate(logits, size=tuple(size), mode=MODES[logits.ndim], align_corners=False)


def at_size(values: Tensor, size: Any) -> Tensor:
    """Resize labels or booleans ``(N, *locations)`` by the nearest location."""
    if tuple(values.shape[1:]) == tuple(size):
        return values
    found = F.interpolate(values.unsqueeze(1).double(), size=tuple(size), mode="nearest-exact")
    return found.squeeze(1).to(values.dtype)
