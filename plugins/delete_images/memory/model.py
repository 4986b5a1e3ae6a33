"""Inspection of a model passed to erase(): its number of classes, their names, and its kind of output."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError, first_line
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.model.modes import fast_layout
from delete_tasks.task import neutral_names

from ..models.classifier import cast_for, class_outputs, describe, tensors_of
from ..models.outputs import class_maps, refuse_probabilities, refuse_queries, refuse_sigmoids
from .samples import Samples, images_and_labels, named_classes

MEASURED = 1000  # largest number of images of the forget set that are measured


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model with its parameters; raise :class:`UnsupportedModelError` if that fails."""
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(
            f"the model cannot be copied ({str(error).splitlines()[0]}), and the one passed in must not change; give a "
            "module that copy.deepcopy can copy (e.g. remove weight_norm first)"
        ) from error


def device_of(model: nn.Module, device: str | torch.device | None = None) -> torch.device:
    """Return ``device``, by default the model's; refuse a missing device, and a model on several or without parameters."""
    if device is not None:
        try:
            return torch.zeros(1, device=device).device
        except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: PyTorch without CUDA
            raise RequestError(
                f"device={device!r} cannot be used: {first_line(error)}. Give 'cpu', or 'cuda' or 'cuda:N' for one of the "
                f"{torch.cuda.device_count()} GPUs that torch sees"
            ) from error
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model is on several devices ({', '.join(sorted(map(str, devices)))}); move it to one, or give device="
        )
    if not devices:
        raise UnsupportedModelError(f"{type(model).__name__} has no parameter to change; give a network")
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
    model: Any,
    samples: Samples,
    class_names: Sequence[str] | None,
    seed: int,
    device: str | torch.device | None,
    activation: str | None = None,
) -> OpenModel:
    """Check a model, copy it and run the copy on two samples; ``class_names`` and ``device`` as in ``erase``, ``seed`` of the
    samples. Raise :class:`UnsupportedModelError` for a model that cannot be unlearned (no module, wrapped, compiled, of queries,
    with probabilities, see :func:`_run`), and :class:`RequestError` for another number of names than of logits."""
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise UnsupportedModelError(f"model is wrapped in {type(model).__name__}; give model.module")
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError("model is compiled; give the module it was compiled from (model._orig_mod)")
    refuse_queries(model)
    if class_names is not None:
        named = isinstance(class_names, Iterable) and not isinstance(class_names, Mapping)
        class_names = list(class_names) if named else []
        if not class_names or not all(isinstance(name, str) for name in class_names):
            raise RequestError("class_names must be the names of all logits, in their order: a list of strings")
    place = device_of(model, device)
    student = copy_model(model).to(place).eval()
    candidates = named_classes(samples.items) or names_in_config(model)
    numbers, known = evenly_spread(len(samples), MEASURED).tolist(), class_names or candidates
    batches = chain([numbers[:2]], (numbers[i : i + 8] for i in range(2, len(numbers), 8)))
    read = (_run(student, samples.collated(samples.items_of(part, seed)), samples.argument, known) for part in batches)
    images, logits = next(read)
    if activation is None:
        refuse_sigmoids(logits)
    refuse_probabilities(student, chain([logits], (more for _, more in read)))  # reads on to tell them from logits
    count = logits.shape[1]
    if class_names is None:
        # A folder with only the forgotten class names one class, which says nothing about the model's.
        class_names = candidates if candidates is not None and len(candidates) == count else None
    elif len(class_names) != count:
        raise RequestError(f"class_names holds {len(class_names)} names for {count} logits; name every logit, in order")
    names = [f"class_{i}" for i in range(count)] if class_names is None else list(class_names)
    if logits.ndim == 2:
        try:
            _run(fast_layout(student), images, samples.argument, names)
        except UnsupportedModelError:  # e.g. a view of a map
            student.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return OpenModel(model, student, place, names, class_names is not None, logits.ndim - 2, images)


def _run(model: nn.Module, batch: Any, argument: str, names: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    """Run a model on a collated batch; return images and logits, one for each name if possible."""
    images, _ = images_and_labels(batch, argument)
    inputs = cast_for(model, images.to(device_of(model)))
    try:
        with torch.no_grad():
            output = model(inputs)
    except Exception as error:
        raise UnsupportedModelError(
            f"the model cannot be run on a batch of {argument}, {describe(inputs)}: {error}. Give images as the model "
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
    """Find the predicting logits in a model's output: ``(N, C)`` of a classifier or ``(N, C, *locations)``, preferably with C =
    ``count``, or else a classifier's if these come first; raise :class:`UnsupportedModelError` if none or both could be meant."""
    kinds = [_first_of(find, output, count) for find in (class_outputs, class_maps)]
    found = [logits for logits in kinds if isinstance(logits, Tensor)]
    tensors = tensors_of(output)
    if not found:
        classes, maps = kinds
        raise maps if any(part.ndim > 2 for part in tensors) else classes  # type: ignore[misc]
    matches = [logits for logits in found if logits.shape[1] == count]
    if len(found) == 1 or len(matches) == 1:
        return (matches or found)[0]
    if found[0] is next(part for part in tensors if part.ndim > 1):
        return found[0]
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


def check_trainable(model: nn.Module) -> None:
    """Raise :class:`UnsupportedModelError` for a model without a parameter that requires a gradient."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnsupportedModelError(
            "no parameter of the model requires a gradient; call requires_grad_(True) on the layers that may change"
        )


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
