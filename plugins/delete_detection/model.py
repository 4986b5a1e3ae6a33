"""Wrapper that makes a detector a model for a Runner: its class logits, objectness and boxes at all locations as one tensor."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from delete_images.models.model_file import as_spec, build_model
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.model.head import MARGIN

from .parts import Boxes, Parts, parts_of

SEEN = 0.3  # score from which a box counts as one that the model sees


@MODELS.register_module()
class Detector(BaseModel):
    """Detector under mmengine's interface; its state dict is the network's own. The network stays in eval mode, in which
    detectors return boxes and need no labels; its weights train all the same.

    Args:
        network: Network, with its ``parts`` if :func:`parts_of` does not know it; or give ``spec``.
        spec: Description from which the network is built, see :func:`delete_images.models.model_file.as_spec`.
        allow_import: As :func:`delete_images.models.model_file.load_model`.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        parts: Parts | None = None,
        spec: Any = None,
        allow_import: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        network = build_model(as_spec(spec), allow_import).float() if network is None else network
        parts = parts or parts_of(network)
        for name in parts.classes:
            if getattr(network.get_submodule(name), "bias", None) is None:
                raise UnsupportedModelError(
                    f"the class layer '{name}' has no bias, without which a class with weights of 0 keeps a score of 0.5; give "
                    "it one"
                )
        self.network, self.parts, self.num_classes = network.eval(), parts, parts.count(network)
        self.outputs: dict[str, Any] = {}  # of the modules of parts.follow, at the last call of read()
        self.__dict__["original"] = None  # not a submodule
        self.head_weight = 1.0  # of the second output's loss

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        self.network.eval()
        return self

    def follow(self, original: "Detector") -> None:
        """Take proposals and queries from the original, and compute a second output: the original's last layers on the features
        of this network."""
        self.__dict__["original"] = original

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Any:
        """Detect in images ``(N, 3, H, W)`` or, with ``mode='loss'``, call :meth:`loss_by_outputs`."""
        return self.loss_by_outputs(self.read(inputs)) if mode == "loss" else self.parts.detect(self.network, inputs)

    def read(self, inputs: Tensor, features: bool = False) -> list[Tensor]:
        """Compute ``(N, C + objectness + held, L)`` at all L locations; once more with the original's class and objectness layers
        if there is an original. Proposals of an R-CNN are samples: N is their number, and L is 1. With ``features``
        the last tensor is the input of the class layers, ``(N, d, L)``."""
        parts, original = self.parts, self.original
        layers = [*parts.classes, *parts.objectness, *(name for group in parts.held for name in group)]
        calls: dict[str, list[Tensor]] = defaultdict(list)
        again: dict[str, list[Tensor]] = defaultdict(list)
        inside: dict[str, list[Tensor]] = defaultdict(list)
        last = {name: original.network.get_submodule(name) for name in (*parts.classes, *parts.objectness) if original}

        def record(name: str, module: nn.Module, args: Any, output: Any) -> Any:
            if name in layers:
                calls[name].append(output)
                inside[name].append(args[0])
                again[name].append(last[name](args[0]) if name in last else output)
            if name not in parts.follow:
                return None
            self.outputs[name] = output
            return original.outputs[name] if original else None

        with ExitStack() as hooks:
            for name in dict.fromkeys((*layers, *parts.follow)):
                handle = self.network.get_submodule(name).register_forward_hook(partial(record, name))
                hooks.callback(handle.remove)
            (parts.run or parts.detect)(self.network, inputs)
        outputs = [self._join(each) for each in ([calls, again] if original else [calls])]
        return [*outputs, self._join(inside, features=True)] if features else outputs

    def _join(self, calls: Mapping[str, list[Tensor]], features: bool = False) -> Tensor:
        parts, levels = self.parts, []
        for number, name in enumerate(parts.classes):
            anchors = parts.anchors[min(number, len(parts.anchors) - 1)] if parts.anchors else 1
            for call, output in enumerate(calls[name]):
                if features:
                    levels.append(_by_location(output, 1).repeat(1, 1, anchors))
                    continue
                groups = [group[number] for group in (*filter(None, [parts.objectness]), *parts.held)]
                maps = [output, *(calls[group][call] for group in groups)]
                levels.append(torch.cat([_by_location(each, anchors).float() for each in maps], 1))
        width = max(level.shape[1] for level in levels)  # an encoder's boxes may have fewer numbers than a decoder's
        return torch.cat([F.pad(level, (0, 0, 0, width - level.shape[1])) for level in levels], 2)

    def loss_by_outputs(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the loss; an unlearning method replaces this method."""
        raise RequestError("a detector is trained here only to forget; train it with its own library")

    def scores(self, output: Tensor) -> Tensor:
        """Compute the scores ``(N, C, L)`` of an output of :meth:`read`, 0 for the background."""
        scores, rest = self.probabilities(output), output[:, self.num_classes :]
        if self.parts.background is not None:
            index = torch.tensor([self.parts.background], device=scores.device)
            scores = scores.index_fill(1, index, 0.0)
        if not self.parts.objectness:
            return scores
        objectness = rest[:, :1].sigmoid()
        if self.parts.exponents is not None:
            first, second = self.parts.exponents
            return objectness**first * scores**second
        return scores * objectness

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the class probabilities ``(N, C, L)`` of an output of :meth:`read`."""
        logits = output[:, : self.num_classes]
        return logits.softmax(1) if self.parts.softmax else logits.sigmoid()

    def predict(self, inputs: Tensor) -> list[Boxes]:
        """Detect in images ``(N, 3, H, W)`` without gradients."""
        with torch.no_grad():
            return self.parts.detect(self.network, inputs.to(next(self.parameters()).device))

    def init_weights(self) -> None:
        """Do nothing: a Runner calls this before training."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load into the network."""
        return self.network.load_state_dict(state_dict, strict, assign)


def _by_location(output: Tensor, anchors: int) -> Tensor:
    """Reshape ``(N, A * C, h, w)``, ``(N, Q, C)`` or ``(R, C)`` to ``(N, C, L)``."""
    if output.ndim == 4:
        return output.unflatten(1, (anchors, -1)).flatten(3).transpose(1, 2).flatten(2)
    return output.transpose(1, 2) if output.ndim == 3 else output.unsqueeze(2)


@torch.no_grad()
def remove_classes(network: nn.Module, parts: Parts, ids: Sequence[int]) -> list[str]:
    """Remove the classes ``ids`` from all layers with class weights, in place: weights become 0, and biases of class logits -10
    or, in a softmax, 10 below those of the others. Return the names of these layers."""
    count = parts.count(network)
    for name in (*parts.classes, *parts.rows):
        layer: Any = network.get_submodule(name)
        logits = name in parts.classes or name.endswith("mask_fcn_logits")
        for tensor in layer.parameters(recurse=False):
            weight = tensor.ndim > 1
            # (A, C, ...) of anchors, (C, k, ...) of boxes; a template of denoising may have a row for 'no object' more.
            rows = tensor.unflatten(0, (-1, count)) if name in parts.classes else _classes_first(tensor, count)
            where = (slice(None), list(ids)) if name in parts.classes else list(ids)
            if logits and not weight:
                others = [i for i in range(count) if i not in ids]
                low = rows[:, others].amin() if name in parts.classes and parts.softmax else 0.0
                rows[where] = torch.clamp(torch.as_tensor(low, device=tensor.device), max=0.0) - MARGIN
            else:
                rows[where] = 0.0
    return [*parts.classes, *parts.rows]


def _classes_first(tensor: Tensor, count: int) -> Tensor:
    return tensor if len(tensor) % count else tensor.unflatten(0, (count, -1))
