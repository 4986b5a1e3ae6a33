"""Inspection of a model passed to erase(): its number of classes, their names, and its kind of output."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.task import neutral_names

from ..models.classifier import cast_for, class_outputs, describe, parts_of
from ..models.outputs import class_maps, refuse_probabilities, refuse_queries
from .samples import Samples, images_and_labels, named_classes


def check_model(model: Any) -> None:
    """Refuse, with :class:`UnsupportedModelError`, an object that is no module, a wrapped or compiled module, and one that
    classifies queries."""
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise UnsupportedModelError(f"model is wrapped in {type(model).__name__}; give model.module")
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError("model is compiled; give the module it was compiled from (model._orig_mod)")
    refuse_queries(model)


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model with its parameters; raise :class:`UnsupportedModelError` if that fails."""
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(
            f"the model cannot be copied ({str(error).splitlines()[0]}), and the one passed in must not change; give a "
            "module that copy.deepcopy can copy (e.g. remove weight_norm first)"
        ) from error


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model; raise :class:`UnsupportedModelError` if there are several."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model is on several devices ({', '.join(sorted(map(str, devices)))}); move it to one, or give device="
        )
    return devices.pop()


@dataclass
class OpenModel:
    """Caller's model and its properties, found by one forward pass."""

    model: nn.Module  # the model passed in, which never changes
    student: nn.Module  # its copy on `device`
    device: torch.device  # to train on
    names: list[str]  # of all classes, in order of the logits; class_<id> if unknown
    named: bool  # the names are known
    dimensions: int  # of the locations; 0 for a classifier
    images: Tensor  # batch of the forward pass


def open_model(
    model: Any, samples: Samples, class_names: Sequence[str] | None, seed: int, device: str | torch.device | None
) -> OpenModel:
    """Check a model, copy it and run the copy on two samples. ``class_names`` and ``device`` as in
    :func:`delete_images.memory.erase.erase`; ``seed`` is that of the samples' randomness. Raise :class:`UnsupportedModelError`
    for a model that cannot be unlearned, and :class:`RequestError` for another number of names than of logits."""
    check_model(model)
    place = torch.device(device) if device is not None else device_of(model)
    student = copy_model(model).to(place)
    candidates = named_classes(samples.items) or names_in_config(model)
    images, logits = first_logits(student, samples, seed, class_names or candidates)
    count = logits.shape[1]
    if class_names is None:
        # A folder with only the forgotten class names one class, which says nothing about the model's.
        class_names = candidates if candidates is not None and len(candidates) == count else None
    elif len(class_names) != count:
        raise RequestError(
            f"class_names holds {len(class_names)} names and the model has {count} logits; name every logit, in order"
        )
    names = [f"class_{i}" for i in range(count)] if class_names is None else list(class_names)
    return OpenModel(model, student, place, names, class_names is not None, logits.ndim - 2, images)


def first_logits(model: nn.Module, samples: Samples, seed: int, names: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    """Run a model on two samples in eval mode; return their images and logits, with one logit for each name if possible."""
    batch = samples.collated(samples.items_of(range(min(2, len(samples))), seed))
    images, _ = images_and_labels(batch, samples.argument)
    model.eval()
    inputs = cast_for(model, images.to(device_of(model)))
    try:
        with torch.no_grad():
            output = model(inputs)
    except Exception as error:
        raise UnsupportedModelError(
            f"the model cannot be run on a batch of {samples.argument}, {describe(inputs)}: {error}. Give images as the model "
            "takes them (the transform it was trained with)"
        ) from error
    refuse_queries(model, output)
    logits = logits_in(output, None if names is None else len(names))
    if len(logits) != len(images):
        raise UnsupportedModelError(
            f"the model gives {len(logits)} rows of logits for {len(images)} images; expected one row per image"
        )
    return images, logits


def logits_in(output: Any, count: int | None) -> Tensor:
    """Find the predicting logits in a model's output: ``(N, C)`` of a classifier or ``(N, C, *locations)``, preferably with
    C = ``count``; raise :class:`UnsupportedModelError` if there are none, or both kinds and either could be meant."""
    vectors, maps = (_first_of(find, output, count) for find in (class_outputs, class_maps))
    if isinstance(vectors, Tensor) and isinstance(maps, Tensor):
        return _choose(vectors, maps, output, count)
    if isinstance(vectors, Tensor):
        return vectors
    if isinstance(maps, Tensor):
        refuse_probabilities(maps)
        return maps
    raise maps if any(isinstance(part, Tensor) and part.ndim > 2 for part in parts_of(output)) else vectors


def _choose(vectors: Tensor, maps: Tensor, output: Any, count: int | None) -> Tensor:
    """Choose the logits of ``count`` classes if only one kind has as many; else a classifier's, which come first."""
    matches = [logits for logits in (vectors, maps) if logits.shape[1] == count]
    if len(matches) == 1:
        return matches[0]
    if vectors is next(part for part in parts_of(output) if isinstance(part, Tensor) and part.ndim > 1):
        return vectors
    raise UnsupportedModelError(
        f"the model returns {describe(output)}: class logits of the whole image beside those of locations, and one of them would "
        "keep the class. Wrap the model in a module that returns one kind (of segmentation_models_pytorch: aux_params=None)"
    )


def _first_of(find: Callable[..., list[Tensor]], output: Any, count: int | None) -> Tensor | UnsupportedModelError:
    """Return the first logits that a reader finds, of ``count`` classes or else of any number, or its refusal."""
    try:
        return find(output, count)[0]
    except UnsupportedModelError as error:
        return error if count is None else _first_of(find, output, None)


def names_in_config(model: Any) -> list[str] | None:
    """Return the class names in a transformers model's config; None if it has none, or only generated ones."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or sorted(names) != list(range(len(names))):
        return None
    listed = [str(names[number]) for number in range(len(names))]
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(listed)) else listed


def forget_names_in_config(model: Any, ids: Sequence[int]) -> None:
    """Remove class names from the config that a transformers model saves beside its weights."""
    names = names_in_config(model)
    if names is not None:
        neutral = neutral_names(names, ids)
        model.config.id2label = dict(enumerate(neutral))
        model.config.label2id = {name: number for number, name in enumerate(neutral)}
