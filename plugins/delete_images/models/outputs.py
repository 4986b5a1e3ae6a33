"""Class logits ``(N, C, *locations)`` of networks and their auxiliary heads."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.model.head import find_class_layers

from .classifier import cast_for, select_logits, tensors_of

AUXILIARY = "auxiliary_head"  # run by transformers' models, which use its logits only in their loss
MOST_NEGATIVE = 0.9  # share of the locations
TOLERANCE = 1e-2  # of probabilities and their sum, which bfloat16 rounds
MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
# Recognised by the prefix of the class name, or by the keys of the output.
QUERY_MODELS = ("MaskFormer", "Mask2Former", "OneFormer", "Eomt", "Detr", "ConditionalDetr", "DeformableDetr", "RTDetr")
QUERY_KEYS = ("class_queries_logits", "masks_queries_logits", "pred_boxes", "pred_masks")
QUERIES = (
    "its class logits belong to queries, not to locations: each query proposes a region, which can differ between the original "
    "and the model being changed, so that their logits cannot be compared. Give a model with class logits at every location, "
    "such as SegFormer, UperNet, DPT, FCN or a U-Net"
)


def refuse_queries(model: nn.Module, output: Any = None) -> None:
    """Raise UnsupportedModelError for a model that classifies queries, by the names of its classes or the keys of its output."""
    named = any(kind.__name__.startswith(QUERY_MODELS) for kind in type(model).__mro__)
    if named or (isinstance(output, Mapping) and any(key in output for key in QUERY_KEYS)):
        raise UnsupportedModelError(f"{type(model).__name__} cannot be unlearned: {QUERIES}")


def class_maps(output: Any, num_classes: int | None = None) -> list[Tensor]:
    """Find the class logits in a network's output, the prediction's first; raise UnsupportedModelError without any, and for a
    single class. The output is a tensor ``(N, C, *locations)``; a tuple or list with one or more such tensors of the same C; or a
    dict or object with them under ``logits``, or ``out`` and ``aux``. C is ``num_classes``; None takes the first tensor's."""
    parts = [part for part in tensors_of(output) if part.ndim >= 3]
    return select_logits(parts, num_classes, output, "(N, C, *locations)", "'logits' or 'out'")


def refuse_probabilities(network: nn.Module, outputs: Iterable[Tensor]) -> None:
    """Raise UnsupportedModelError if a network's ``outputs`` ``(N, C, *locations)``, batches of samples, are probabilities: all
    are in [0, 1], and they sum to 1, or one is above 0.5. The first batch with another number ends the reading. Logits that
    differ by at most 1 give one class of ten at most 23%: those of a network that was trained differ by more."""
    count, highest, sums, maps = 0, 0.0, True, False
    for values in outputs:
        values = values.float()
        if not (float(values.min()) >= 0 and float(values.max()) <= 1 + TOLERANCE):
            return
        count, highest, maps = count + len(values), max(highest, float(values.max())), values.ndim > 2
        sums = sums and bool(((values.sum(1) - 1).abs() < TOLERANCE).all())
    name, last = list(network.named_modules())[-1]
    is_last = isinstance(last, (nn.Softmax, nn.Softmax2d, nn.Sigmoid))
    if not count or not (sums or highest > 0.5 or is_last):
        return
    kind = "softmax" if sums else "sigmoid"
    fix = f"replace '{name}', {type(last).__name__}, by torch.nn.Identity()" if is_last else f"leave the {kind} out"
    fix += " (in segmentation_models_pytorch: activation=None)" * maps
    fix += "; subtract 1 from logits that happen to be so small, which changes no prediction" * (not sums)
    raise UnsupportedModelError(
        f"the model returns probabilities, as after a {kind}: its outputs for {count} images are all in [0, 1]"
        f"{' and sum to 1' * sums}; expected logits. In a copy of the model, {fix}"
    )


def refuse_sigmoids(logits: Tensor) -> None:
    """Refuse logits ``(N, C, *locations)`` above -1 almost nowhere, unlike a softmax's, but for logarithms of probabilities."""
    negative = float((logits.amax(1) < -1).float().mean()) > MOST_NEGATIVE
    if negative and float(logits.float().logsumexp(1).abs().max()) > TOLERANCE:
        raise UnsupportedModelError(
            "nearly all logits are below -1, as those of sigmoid scores are; give activation='softmax' if the classes exclude "
            "each other, or activation='sigmoid' if they do not (only classifiers). For a detector use "
            "delete_tasks.erase_detector"
        )


def run(network: nn.Module, inputs: Tensor, num_classes: int) -> list[Tensor]:
    """Compute a batch's class logits, ``(N, C, *locations)`` of one size, the prediction's first; raise as :func:`class_maps`."""
    auxiliary: list[Any] = []
    head: Any = getattr(network, AUXILIARY, None)
    caught = isinstance(head, nn.Module)
    with head.register_forward_hook(lambda _, given, made: auxiliary.append(made)) if caught else nullcontext():
        maps = class_maps(network(inputs), num_classes)
    if caught and not auxiliary:
        raise UnsupportedModelError(
            f"the forward of {type(network).__name__} does not run its {AUXILIARY}, which would keep the class; remove it "
            f"(model.{AUXILIARY} = None). For a model of MMSegmentation, use delete-tasks segmentation forget"
        )
    for output in auxiliary:
        maps += class_maps(output, num_classes)
    return [maps[0], *(resize(part, maps[0].shape[2:]) for part in maps[1:])]


def class_layers_of(network: nn.Module, inputs: Tensor, num_classes: int) -> list[str]:
    """Find the names of the layers that output class logits, the prediction's first; raises UnsupportedModelError without one."""
    inputs = cast_for(network, inputs.to(next(network.parameters()).device))
    layers = find_class_layers(network, partial(run, network, inputs, num_classes), num_classes)
    if [] in layers:
        raise UnsupportedModelError(
            f"{type(network).__name__} has no linear layer or convolution whose outputs are the {num_classes} class logits "
            f"of its output {layers.index([]) + 1} of {len(layers)}, so the weights of the forgotten classes cannot be removed. "
            "Use keep_row=True to return the model with them; they are templates of the classes"
        )
    return list(dict.fromkeys(chain(*layers)))


def resize(logits: Tensor, size: Any) -> Tensor:
    """Resize logits ``(N, C, *locations)`` by linear interpolation, corners not aligned."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    if logits.ndim not in MODES or len(size) != logits.ndim - 2:
        raise UnsupportedModelError(
            f"logits of shape {tuple(logits.shape)} cannot be resized to {tuple(size)}; expected the same number of dimensions "
            "of locations, one to three"
        )
    return nn.functional.interpolate(logits, size=tuple(size), mode=MODES[logits.ndim], align_corners=False)


def at_size(values: Tensor, size: Any) -> Tensor:
    """Resize labels or booleans ``(N, *locations)`` by the nearest location."""
    if tuple(values.shape[1:]) == tuple(size):
        return values
    resized = nn.functional.interpolate(values.unsqueeze(1).double(), size=tuple(size), mode="nearest-exact")
    return resized.squeeze(1).to(values.dtype)
