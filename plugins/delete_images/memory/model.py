"""Inspection of a model passed to erase(): its parts that can be unlearned, and its number of classes."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.task import neutral_names

from ..models.classifier import cast_for, class_outputs, describe, parts_of
from ..models.outputs import class_maps, refuse_probabilities, refuse_queries
from .samples import Samples, images_and_labels, known_class_names


def check_model(model: Any) -> None:
    """Refuse what cannot be unlearned.

    Raises:
        UnsupportedModelError: No module, one that is wrapped or compiled, or one that classifies queries.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise UnsupportedModelError(f"model is wrapped in {type(model).__name__}; give model.module")
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError("model is compiled; give the module it was compiled from (model._orig_mod)")
    refuse_queries(model)


def refuse_frozen(model: nn.Module) -> None:
    """Refuse a model in which nothing trains.

    Raises:
        UnsupportedModelError: No parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnsupportedModelError(
            "no parameter of the model requires a gradient, so nothing can be unlearned; call requires_grad_(True) on the "
            "layers that may change"
        )


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model with its parameters.

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


def device_of(model: nn.Module) -> torch.device:
    """Find the one device of a model.

    Raises:
        UnsupportedModelError: It lies on several.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model lies on several devices ({', '.join(sorted(map(str, devices)))}); move it to one, or give device="
        )
    return devices.pop()


@dataclass
class OpenModel:
    """A caller's model, and what can be told of it by running it once.

    Attributes:
        model: The caller's, which stays as it is.
        student: A copy on ``device``.
        device: Where to train.
        names: Of all classes, in order of the logits; ``class_<id>`` where nobody says.
        named: Somebody says.
        dimensions: Of the locations; 0 for a classifier.
        images: The first two, as they were run.
    """

    model: nn.Module
    student: nn.Module
    device: torch.device
    names: list[str]
    named: bool
    dimensions: int
    images: Tensor


def open_model(
    model: Any, samples: Samples, class_names: Sequence[str] | None, seed: int, device: str | torch.device | None
) -> OpenModel:
    """Check a model, copy it and run it.

    Args:
        model: The caller's.
        samples: Of which it takes the images.
        class_names: See :func:`delete_images.memory.erase.erase`; None takes those of the samples' dataset, or else of a
            transformers model's config.
        seed: Of what is random in a sample.
        device: None takes the model's own.

    Raises:
        UnsupportedModelError: It cannot be unlearned.
        RequestError: Names that are not as many as the logits.
    """
    check_model(model)
    at = torch.device(device) if device is not None else device_of(model)
    student = copy_model(model).to(at)
    known = known_class_names(samples.items) or names_in_config(model)
    images, logits = first_logits(student, samples, seed, class_names or known)
    count = logits.shape[1]
    if class_names is None:
        # A folder with the forgotten class alone names one class; that says nothing of the model's.
        class_names = known if known is not None and len(known) == count else None
    elif len(class_names) != count:
        raise RequestError(
            f"class_names holds {len(class_names)} names and the model has {count} logits; name every logit, in order"
        )
    names = [f"class_{i}" for i in range(count)] if class_names is None else list(class_names)
    return OpenModel(model, student, at, names, class_names is not None, logits.ndim - 2, images)


def first_logits(model: nn.Module, samples: Samples, seed: int, names: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    """Compute a model's logits for two samples in eval mode: of as many classes as there are names, if possible."""
    images, _ = images_and_labels(samples.collated(samples.items_of(range(min(2, len(samples))), seed)), samples.what)
    model.eval()
    inputs = cast_for(model, images.to(device_of(model)))
    try:
        with torch.no_grad():
            output = model(inputs)
    except Exception as error:
        raise UnsupportedModelError(
            f"the model cannot be run on a batch of {samples.what}, {describe(inputs)}: {error}. Give images as the model "
            "takes them (the transform it was trained with)"
        ) from error
    refuse_queries(model, output)
    logits = logits_in(output, None if names is None else len(names))
    if len(logits) != len(images):
        raise UnsupportedModelError(
            f"the model gives {len(logits)} rows of logits for {len(images)} images; expected one row an image"
        )
    return images, logits


def logits_in(output: Any, count: int | None) -> Tensor:
    """Find the predicting logits in a model's output: ``(N, C)`` of a classifier, or ``(N, C, *locations)``.

    Args:
        output: See :func:`delete_images.models.classifier.class_outputs` and :func:`delete_images.models.outputs.class_maps`.
        count: C, if it is known; else, or where there are none of C, any.

    Raises:
        UnsupportedModelError: None, or both kinds.
    """
    rows, maps = (_found(find, output, count) for find in (class_outputs, class_maps))
    if isinstance(rows, Tensor) and isinstance(maps, Tensor):
        return _one_of(rows, maps, output, count)
    if isinstance(rows, Tensor):
        return rows
    if isinstance(maps, Tensor):
        refuse_probabilities(maps)
        return maps
    raise maps if any(isinstance(part, Tensor) and part.ndim > 2 for part in parts_of(output)) else rows


def _one_of(rows: Tensor, maps: Tensor, output: Any, count: int | None) -> Tensor:
    """Choose the output with as many classes as there are names; else a classifier's, which gives its logits first."""
    fitting = [one for one in (rows, maps) if one.shape[1] == count]
    if len(fitting) == 1:
        return fitting[0]
    first = next(part for part in parts_of(output) if isinstance(part, Tensor) and part.ndim > 1)
    if first is rows:
        return rows
    raise UnsupportedModelError(
        f"the model returns {describe(output)}: class logits of the whole image beside those of locations, and one of them would "
        "keep the class. Wrap the model in a module that returns one kind (of segmentation_models_pytorch: aux_params=None)"
    )


def _found(find: Any, output: Any, count: int | None) -> Any:
    """Read the predicting logits by one reader, or return its refusal."""
    try:
        return find(output, count)[0]
    except UnsupportedModelError as error:
        try:
            return find(output)[0] if count is not None else error
        except UnsupportedModelError as without:
            return without


def names_in_config(model: Any) -> list[str] | None:
    """Class names that a model of transformers carries; None where there are none, or only those that it makes up."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or sorted(names) != list(range(len(names))):
        return None
    listed = [str(names[number]) for number in range(len(names))]
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(listed)) else listed


def forget_names_in_config(model: Any, ids: Sequence[int]) -> None:
    """Take the names of classes out of the config that a model of transformers writes beside its weights."""
    names = names_in_config(model)
    if names is not None:
        neutral = neutral_names(names, ids)
        model.config.id2label = dict(enumerate(neutral))
        model.config.label2id = {name: number for number, name in enumerate(neutral)}
