"""The last linear layer of any classifier, found by shape."""

from typing import Any

from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.model.head import ClassLayer


def _is_linear_map(module: nn.Module) -> bool:
    # By shape rather than by class, to include cosine heads and timm's linear layers.
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    return weight.dim() == 2 or (weight.dim() == 4 and weight.shape[2:] == (1, 1) and getattr(module, "groups", 1) == 1)


def classifier_of(model: nn.Module, num_classes: int | None = None) -> ClassLayer:
    """Find the layer that gives the logits: the last in order of registration whose output size is ``num_classes``: a linear
    layer, 1x1 convolution (SqueezeNet) or module whose ``weight`` is (C, D). Without ``num_classes`` it is the last matrix-shaped
    layer or else 1x1 convolution. Raise UnsupportedModelError, with the last few candidates, if there is no such layer."""
    candidates: Any = [ClassLayer(name, module) for name, module in model.named_modules() if _is_linear_map(module)]
    if num_classes is None:
        matches = [layer for layer in candidates if layer.module.weight.dim() == 2] or candidates
    else:
        matches = [layer for layer in candidates if len(layer.module.weight) == num_classes]
    if matches:
        return matches[-1]
    shapes = [(layer.name, *layer.module.weight.shape[:2]) for layer in candidates[-5:]]
    listed = ", ".join(f"{name} ({features} -> {classes})" for name, classes, features in shapes)
    wanted = "" if num_classes is None else f" with {num_classes} outputs"
    raise UnsupportedModelError(
        f"{type(model).__name__} has no linear layer{wanted} that could be its classifier; candidates: {listed or 'none'}. "
        "Check the number of classes, or give the model a linear last layer"
    )
