"""Wrapper that makes a network with logits (N, C) a model for a Runner and for unlearning methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.model.modes import fast_layout

from .model_file import as_spec, build_model

NO_LABEL = -1
OUTPUT_KEYS = ("logits", "out", "aux")
AUX_WEIGHT = 0.4  # of class outputs after the first, as for Inception's auxiliary classifier


def class_outputs(output: Any, num_classes: int | None = None) -> list[Tensor]:
    """Find the class logits in a network's output, the prediction's first. The output is a tensor ``(N, C)``; a tuple or list
    with one or more such tensors (others, such as features, are left out); or a dict or object with one under ``logits``. C is
    ``num_classes``; None takes the number of columns, if there is only one. Raise UnsupportedModelError without logits, for
    several tensors that could be the logits, or a single class, which leaves no other class to predict."""
    parts = [part for part in tensors_of(output, ("logits",)) if part.ndim == 2]
    if num_classes is None and len({part.shape[1] for part in parts}) > 1:
        raise UnsupportedModelError(
            f"the model returns {describe(output)}, of which several could be the logits; give class_names in their order"
        )
    return select_logits(parts, num_classes, output, "(N, C)", "'logits'")


def tensors_of(output: Any, keys: Sequence[str] = OUTPUT_KEYS) -> list[Tensor]:
    """List the floating-point tensors of a network's output that may be class logits, in order."""
    parts = output if isinstance(output, (tuple, list)) else [output]
    if not isinstance(output, (Tensor, tuple, list)):
        parts = [output.get(key) if isinstance(output, Mapping) else getattr(output, key, None) for key in keys]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


def select_logits(parts: Sequence[Tensor], num_classes: int | None, output: Any, shape: str, keys: str) -> list[Tensor]:
    """Select the tensors with ``num_classes`` channels, or the first's number; refuse none and a single class, with a message."""
    classes = parts[0].shape[1] if num_classes is None and parts else num_classes
    logits = [part for part in parts if part.shape[1] == classes]
    if not logits:
        wanted = shape if classes is None else shape.replace("C", str(classes))
        raise UnsupportedModelError(
            f"the model returns {describe(output)}, in which there are no class logits {wanted}; expected a floating-point "
            f"tensor of that shape, a tuple with one, or a dict with one under {keys}. Wrap the model in a module that returns it"
        )
    if classes == 1:
        raise UnsupportedModelError(
            f"the model returns {describe(output)}: with its single output (C=1) forgotten, nothing is left to predict. "
            "Give it two outputs (the logits 0 and x are equivalent to a single logit x)"
        )
    return logits


def describe(output: Any) -> str:
    """Describe a value's type and its tensors' shapes."""
    if isinstance(output, Tensor):
        return f"a {output.dtype} tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(f'{key!r}: {describe(value)}' for key, value in output.items())}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of ({', '.join(map(describe, output))})"
    return f"a {type(output).__name__}"


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Network with mmengine's model interface.

    Its state dict is the network's, without a prefix, so that files of the bare network load strictly, and saved files into it.

    Args:
        network: A module that maps a batch to logits, see :func:`class_outputs`; or give ``spec``.
        spec: Description from which the network is built, see :func:`delete_images.models.model_file.as_spec`.
        allow_import: As :func:`delete_images.models.model_file.load_model`.
        num_classes: C; the number of classes of ``spec`` if that is given.
    """

    task = "images"  # name of the task plugin that handles the model

    def __init__(
        self,
        network: nn.Module | None = None,
        spec: Any = None,
        allow_import: bool = False,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (network is None) == (spec is None):
            raise RequestError("ImageClassifier takes either a network or a spec; give one of them")
        if network is None:
            described = as_spec(spec)
            network, num_classes = build_model(described, allow_import).float(), len(described.classes)
            if not torch.cuda.is_available():
                fast_layout(network)
        self.network, self.num_classes = network, num_classes

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, retain: Tensor | None = None, mode: str = "tensor"
    ) -> Any:
        """Compute float logits ``(N, C)`` or, with ``mode='loss'`` instead of 'tensor' or 'predict', a dict of losses.
        Floating-point ``inputs`` are cast to the dtype of the network's parameters. ``labels`` are int64 ``(N,)``, -1 for no
        label; ``retain`` is boolean ``(N,)``, True for samples of the retain set."""
        logits = class_outputs(self.network(cast_for(self.network, inputs)), self.num_classes)
        return self.loss_by_logits(logits, labels, retain) if mode == "loss" else logits[0]

    def loss_by_logits(
        self, logits: list[Tensor], labels: Tensor | None, retain: Tensor | None, valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the cross entropy of each output; an unlearning method replaces this method."""
        if labels is None:
            raise RequestError("training needs a label for each image, but the data have none")
        labels = labels if valid is None else labels.masked_fill(~valid, NO_LABEL)
        losses = {}
        for number, (part, weight) in enumerate(zip(logits, output_weights(len(logits)), strict=True)):
            suffix = f"_{number}" if number else ""
            losses[f"loss_ce{suffix}"] = weight * F.cross_entropy(part.float(), labels, ignore_index=NO_LABEL)
        return losses

    def init_weights(self) -> None:
        """Do nothing: a Runner calls this before training, and networks of other libraries would reset their weights."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load into the network."""
        return self.network.load_state_dict(state_dict, strict, assign)


def cast_for(network: nn.Module, inputs: Tensor) -> Tensor:
    """Cast a batch's floating-point values to the dtype of the network's parameters."""
    if not inputs.is_floating_point():
        return inputs
    return inputs.to(next((p.dtype for p in network.parameters() if p.is_floating_point()), inputs.dtype))


def output_weights(outputs: int) -> list[float]:
    """Return the weight of each class output in the loss."""
    return [1.0] + [AUX_WEIGHT] * (outputs - 1)


def predict_batch(model: ImageClassifier, inputs: Tensor) -> Tensor:
    """Compute the float32 logits ``(N, C)`` of one batch, on the model's device and in its current mode."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    with torch.no_grad():
        return model(inputs.to(device)).float()
