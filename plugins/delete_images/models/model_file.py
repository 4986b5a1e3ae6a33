"""Model folders: weights.safetensors and model.json, loaded without running code from them.

model.json::

    {"format": "delete-tasks model", "version": 1,
     "architecture": "resnet18", "arguments": {"stem": "cifar"},
     "classes": ["airplane", ...],
     "preprocessing": {"size": [32, 32], "mean": [...], "std": [...], "channels": "RGB", "input_range": [0, 1],
                       "resize": "stretch", "crop_fraction": 1.0},
     "weights_sha256": "...", "extra": {}}

``architecture`` is a name for :func:`delete_images.models.architectures.build`, which is called with ``arguments`` and the number
of classes, or an import path ``package.module:Class``, called with ``arguments`` alone. Import paths run code and are refused
unless the user allows them.
"""

import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from delete_tasks.errors import CheckpointMismatchError, RequestError
from delete_tasks.fileio import atomic, checkpoint

from .architectures import build, classifier_of
from .architectures.registry import import_and_call, is_import_path
from .spec import SPEC_NAME, WEIGHTS_NAME, ModelSpec, Preprocessing, read_spec, spec_from_json, spec_to_json
from .spec import as_spec as as_spec  # beside what loads and writes the models
from .spec import load_spec as load_spec


def build_model(spec: ModelSpec, allow_import: bool = False) -> nn.Module:
    """Build the network that ``spec`` describes, with random weights; ``allow_import`` runs the code of an import path. Refuse
    one without ``allow_import``; an unknown name or wrong arguments; a head of another size than the number of class names."""
    if not is_import_path(spec.architecture):
        return build(spec.architecture, num_classes=len(spec.classes), **spec.arguments)
    if not allow_import:
        raise RequestError(
            f"the model's architecture '{spec.architecture}' is an import path, whose code would run; if you trust it, pass "
            "--allow-import (allow_import=True)"
        )
    model = import_and_call(spec.architecture, spec.arguments)
    try:
        classifier_of(model, len(spec.classes))  # any layer of that size, since the last one need not be the head
    except TypeError as error:
        outputs = len(classifier_of(model).module.weight)  # type: ignore[arg-type]
        raise RequestError(
            f"'{spec.architecture}' ends in {outputs} outputs, but there are {len(spec.classes)} "
            "class names; give the names of all outputs in their order, or the argument that sets the number of classes"
        ) from error
    return model


def _fit(model: nn.Module, state: Mapping[str, Tensor], spec: ModelSpec, source: str) -> None:
    """Load ``state`` strictly, with a separate message for another number of classes; refuse damaged weights."""
    head = None if spec.extra.get("detector") else classifier_of(model, len(spec.classes))
    weight = None if head is None else state.get(f"{head.name}.weight")
    if head is not None and weight is not None and weight.dim() >= 2 and weight.shape[0] != len(spec.classes):
        raise CheckpointMismatchError(
            f"{source} has a head of {weight.shape[0]} outputs ({head.name}), but {len(spec.classes)} class names are given; "
            "name every class, in the order of the outputs"
        )
    checkpoint.load_state(model, state, source)
    for name, tensor in model.state_dict().items():
        if not tensor.is_meta and not torch.isfinite(tensor).all():
            raise CheckpointMismatchError(f"{source} holds NaN or infinity in {name}; it is damaged, get it again")


def _fit_on_paper(state: Mapping[str, Tensor], spec: ModelSpec, source: str) -> None:
    """Refuse weights that do not fit before memory is allocated, of which a model.json can request any amount. The network is
    built without storage (PyTorch's meta device), with a limit on its modules by the number of weights."""
    count, most = 0, max(10_000, 20 * len(state))

    def count_module(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise RequestError(
                f"'{spec.architecture}' with {reprlib.repr(spec.arguments)} has more than {most} parts, but {source} holds "
                f"{len(state)} tensors; correct the arguments"
            )

    try:
        with register_module_module_registration_hook(count_module), torch.device("meta"):
            model = build_model(spec)
    except RequestError as error:
        if isinstance(error.__cause__, NotImplementedError) or "meta" in str(error.__cause__):
            return  # the builder reads its own tensors (as RegNet does), which have no values on this device
        raise
    _fit(model, {name: tensor.to("meta") for name, tensor in state.items()}, spec, source)


def save_model(folder: str | os.PathLike[str], model: nn.Module, spec: ModelSpec) -> Path:
    """Write a model folder, which is made if it is missing, or replace the model in one; return it.

    model.json is deleted first and written last, so that a folder with one is complete. Other files in it stay. ``model`` is the
    unwrapped network, whose weights keep their dtype in the file; ``spec`` describes it. Raise RequestError for a ``folder`` that
    is a file or a spec that cannot be written as JSON, UnsupportedModelError if no layer has an output for each class.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"cannot write a model to '{folder}': it is a file; give a folder")
    if not spec.extra.get("detector"):
        classifier_of(model, len(spec.classes))
    content = spec_to_json(spec)
    spec_from_json(content, "the model's description")
    # Clones, because safetensors refuses tensors that share memory (tied weights).
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    atomic.discard(folder / SPEC_NAME)
    checkpoint.save_file(state, folder / WEIGHTS_NAME)
    content["weights_sha256"] = checkpoint.file_sha256(folder / WEIGHTS_NAME)
    atomic.save_json(content, folder / SPEC_NAME)
    return folder


def load_model(folder: str | os.PathLike[str], allow_import: bool = False) -> tuple[nn.Module, ModelSpec]:
    """Load a model folder, written by :func:`save_model`, without running code from it, unless ``allow_import`` allows an import
    path in model.json. Return the network on the CPU in eval mode, with float weights as float32, and its description. Raise as
    :func:`load_spec` and :func:`build_model`, and CheckpointMismatchError for weights of another digest, or that do not fit."""
    raw, source = read_spec(folder)
    spec = spec_from_json(raw, source)
    path = Path(folder) / WEIGHTS_NAME
    state = checkpoint.load_once(path)
    digest = raw.get("weights_sha256")
    if digest is not None and digest != checkpoint.file_sha256(path):
        raise CheckpointMismatchError(
            f"'{path}' does not have the SHA-256 in {SPEC_NAME}; copy both files again, or import the weights again"
        )
    if not is_import_path(spec.architecture):
        _fit_on_paper(state, spec, f"'{path}'")
    model = build_model(spec, allow_import).float()
    _fit(model, state, spec, f"'{path}'")
    return model.eval(), spec


def batch_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select batch norm's counters, which old files (PyTorch 0.4.0) lack, eval mode never reads and strict loading adds."""
    return {name: count for name, count in state.items() if name.endswith(".num_batches_tracked")}


def import_checkpoint(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    architecture: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    arguments: Mapping[str, Any] | None = None,
    allow_import: bool = False,
    allow_pickle: bool | None = None,
) -> Path:
    """Make a model folder from a weights file, as ``delete-tasks images import``, and return it.

    The file at ``path`` is a state dict, alone or under ``state_dict``, ``model`` or ``net``; ``module.`` prefixes are removed,
    and weights in half precision are stored as float32. Other arguments are those of :class:`ModelSpec`, of :func:`load_model`
    and of :func:`delete_tasks.fileio.checkpoint.load_file`. Raise as these, and :func:`build_model`; nothing is written then.
    """
    spec, source = ModelSpec(architecture, tuple(classes), preprocessing, dict(arguments or {})), f"'{path}'"
    state = checkpoint.state_dict_of(checkpoint.load_file(path, allow_pickle=allow_pickle), source)
    return import_state(state, source, folder, spec, allow_import)


def import_state(
    state: Mapping[str, Tensor], source: str, folder: str | os.PathLike[str], spec: ModelSpec, allow_import: bool
) -> Path:
    """Make a model folder from a state dict, named ``source`` in messages; raise as :func:`import_checkpoint`."""
    spec_from_json(spec_to_json(spec), "the model's description")
    model = build_model(spec, allow_import).float()
    _fit(model, {**batch_counters(model.state_dict()), **state}, spec, source)
    with atomic.replacing_folder(folder) as temporary:
        save_model(temporary, model, spec)
    return Path(folder)
