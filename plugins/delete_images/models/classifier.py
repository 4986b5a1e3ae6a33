"""Any network that gives logits (N, C), as a model that a Runner can train and an unlearning method can take hold of."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError

from .model_file import as_spec, build_model

NO_LABEL = -1
AUX_WEIGHT = 0.4  # of further class outputs beside the first, as for Inception's auxiliary classifier


def class_outputs(output: Any, num_classes: int | None = None) -> list[Tensor]:
    """Find the class logits in a network's output, the prediction's first.

    Args:
        output: A tensor ``(N, C)``; a tuple or list with one or more such tensors (others, features say, are left out);
            or a dict or object with one under ``logits``.
        num_classes: C; None takes the number of columns, where there is but one.

    Raises:
        UnsupportedModelError: No logits in it, several things that could be, or a single column, which leaves no other
            class to fall back to.
    """
    if isinstance(output, Mapping):
        parts = [output.get("logits")]
    elif isinstance(output, Tensor):
        parts = [output]
    elif isinstance(output, (tuple, list)):
        parts = list(output)
    else:
        parts = [getattr(output, "logits", None)]
    rows = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2 and part.is_floating_point()]
    if num_classes is None and rows:
        if len({part.shape[1] for part in rows}) > 1:
            raise UnsupportedModelError(
                f"the model returns {describe(output)}, of which more than one could be the class logits; give class_names, "
                "whose number tells"
            )
        num_classes = rows[0].shape[1]
    rows = [part for part in rows if part.shape[1] == num_classes]
    if not rows:
        wanted = "(N, C)" if num_classes is None else f"(N, {num_classes})"
        raise UnsupportedModelError(
            f"the model returns {describe(output)}, in which there are no class logits {wanted}; expected a floating-point "
            "tensor of that shape, a tuple that holds one, or a dict with it under 'logits'. Wrap the model in a module "
            "that returns it"
        )
    if num_classes == 1:
        raise UnsupportedModelError(
            f"the model returns {describe(output)}: with its single output (C=1) forgotten, nothing is left to predict. "
            "Give it two outputs (the logits 0 and x say the same as a single logit x)"
        )
    return rows


def describe(output: Any) -> str:
    """Describe a value's type, and its tensors' shapes."""
    if isinstance(output, Tensor):
        return f"a {output.dtype} tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(f'{key!r}: {describe(value)}' for key, value in output.items())}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of ({', '.join(map(describe, output))})"
    return f"a {type(output).__name__}"


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A network under mmengine's interface.

    Its state dict is the network's own, without a prefix: ``weights.safetensors`` of a model folder and anybody's file of
    the bare network load strictly, and what is saved loads into the bare network.

    Args:
        network: Any module that maps a batch to logits, see :func:`class_outputs`. Or:
        spec: Description from which it is built, see :func:`delete_images.models.model_file.as_spec`.
        allow_import: As :func:`delete_images.models.model_file.load_model`.
        num_classes: C; taken from ``spec`` where there is one.
    """

    task = "images"  # which task plugin handles it; a subclass of another plugin says its own

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
            raise RequestError("ImageClassifier takes a network or the spec of one; give exactly one of them")
        self.spec = None if spec is None else as_spec(spec)
        if network is None:
            network = build_model(self.spec, allow_import).float()  # type: ignore[arg-type]
        self.network = network
        self.num_classes = len(self.spec.classes) if self.spec else num_classes

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, retain: Tensor | None = None, mode: str = "tensor"
    ) -> Any:
        """Compute logits or, with ``mode='loss'``, a dict of losses.

        Args:
            inputs: A batch; floating-point values are cast to the dtype of the network's parameters.
            labels: int64 ``(N,)``; -1 where there is no label.
            retain: Booleans ``(N,)``, True for samples that are not of the forget set.
            mode: 'loss', 'tensor' or 'predict'; the latter two give float logits ``(N, C)``.
        """
        logits = class_outputs(self.network(cast_for(self.network, inputs)), self.num_classes)
        return self.loss_by_logits(logits, labels, retain) if mode == "loss" else logits[0]

    def loss_by_logits(
        self, logits: list[Tensor], labels: Tensor | None = None, retain: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Cross entropy of each output; an unlearning method puts its own loss in this method's place."""
        if labels is None:
            raise RequestError("training needs a label for each image, and the data have none")
        losses = {}
        for number, (part, weight) in enumerate(zip(logits, output_weights(len(logits)), strict=True)):
            suffix = f"_{number}" if number else ""
            losses[f"loss_ce{suffix}"] = weight * F.cross_entropy(part.float(), labels, ignore_index=NO_LABEL)
        return losses

    def init_weights(self) -> None:
        """Nothing: a Runner calls this before it trains, and networks of other libraries would draw their weights anew."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Into the network."""
        return self.network.load_state_dict(state_dict, strict, assign)


def cast_for(network: nn.Module, inputs: Tensor) -> Tensor:
    """Cast a batch's floating-point values to the dtype of the network's parameters."""
    if not inputs.is_floating_point():
        return inputs
    return inputs.to(next((p.dtype for p in network.parameters() if p.is_floating_point()), inputs.dtype))


def output_weights(outputs: int) -> list[float]:
    """Weight of each class output in the loss."""
    return [1.0] + [AUX_WEIGHT] * (outputs - 1)


def predict_batch(model: ImageClassifier, inputs: Tensor) -> Tensor:
    """Float32 logits ``(N, C)`` of one batch, on the model's device, in the mode the model is in."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    with torch.no_grad():
        return model(inputs.to(device)).float()
