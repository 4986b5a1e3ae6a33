"""Whatever model a caller of erase() brings: what can be unlearned in it, and how many classes it has."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError

from .classifier import class_outputs, describe
from .user_data import Samples


def check_model(model: Any) -> None:
    """Refuse what cannot be unlearned.

    Raises:
        UnsupportedModelError: No module, one that is wrapped or compiled, or one in which nothing trains.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise UnsupportedModelError(f"model is wrapped in {type(model).__name__}; give model.module")
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError("model is compiled; give the module it was compiled from (model._orig_mod)")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnsupportedModelError(
            "no parameter of the model requires a gradient, so nothing can be unlearned; call requires_grad_(True) on the "
            "layers that may change"
        )


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy.

    Raises:
        UnsupportedModelError: It cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(
            f"the model cannot be copied ({str(error).splitlines()[0]}), and the one passed in must stay as it is; give a "
            "module that copy.deepcopy can copy (e.g. remove weight_norm first)"
        ) from error


def tensors(state: Any) -> dict[str, Tensor]:
    """What of a state dict is a tensor (a module may keep other state in it)."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def device_of(model: nn.Module) -> torch.device:
    """The one device a model lies on.

    Raises:
        UnsupportedModelError: It lies on several.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model lies on several devices ({', '.join(sorted(map(str, devices)))}); move it to one, or give device="
        )
    return devices.pop()


def count_classes(model: nn.Module, samples: Samples, seed: int, names: Sequence[str] | None) -> int:
    """C, from the model's logits of two samples in eval mode; as many as there are names, if it can be that."""
    images, _ = next(samples.batches(range(min(2, len(samples))), 2, seed))
    model.eval()
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
    inputs = images.to(device_of(model), dtype if images.is_floating_point() else images.dtype)
    try:
        with torch.no_grad():
            output = model(inputs)
    except Exception as error:
        raise UnsupportedModelError(
            f"the model cannot be run on a batch of forget_images, {describe(inputs)}: {error}. Give images as the model "
            "takes them (the transform it was trained with)"
        ) from error
    try:
        logits = class_outputs(output, None if names is None else len(names))[0]
    except UnsupportedModelError:
        logits = class_outputs(output)[0]
    if len(logits) != len(images):
        raise UnsupportedModelError(
            f"the model gives {len(logits)} rows of logits for {len(images)} images; expected one row an image"
        )
    return logits.shape[1]
