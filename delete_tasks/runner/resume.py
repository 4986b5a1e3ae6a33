"""Description of a run, saved in its states and compared when it is resumed."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointMismatchError, list_names
from ..task import Run
from .forget_set import digest_of

PROBED = 4  # first items of the stream that describe data without a config


def describe_run(runner: Run) -> dict[str, Any]:
    """Describe the settings that the run's result depends on, see :func:`describe`; its train loop must be built. A hook that
    changes the model before the first step has ``begins_with``, its options by name."""
    recipe, loader, selection = runner.recipe, runner.train_dataloader, runner.selection
    parts: dict[str, Any] = {
        "unlearn": {
            **runner.method_config,
            "classes": selection.forget_ids,
            "optimizer": dict(recipe.optimizer),
            "schedule": recipe.schedule,
        },
        "seed": runner.seed,
        "processes": runner.world_size,
        "batch_size": loader.batch_size,
        "optim_wrapper": runner.wrapper_config,
        "forget set": selection.forget_set,
        "retain set": selection.retain_set,
        "public data": selection.public_data,
        "trained parameters": [n for n, p in runner.unwrapped_model.named_parameters() if p.requires_grad],
        "model": runner.cfg.get("model"),
        "begin": {name: value for hook in runner.hooks for name, value in getattr(hook, "begins_with", {}).items()},
    }
    if recipe.schedule != "constant":
        parts["unlearn"]["steps"] = recipe.steps
    if selection.dataset_config is not None:
        parts["train_dataloader.dataset"] = selection.dataset_config
    else:
        parts["first samples"] = _probe(loader.dataset)
    return describe(parts)


def describe(value: Any, name: str = "") -> dict[str, Any]:
    """Describe settings by name: numbers as they are, others as digests, since a state must not reveal the forgotten classes."""
    if isinstance(value, Mapping):
        parts = [describe(value[key], f"{name}.{key}" if name else str(key)) for key in sorted(value, key=str)]
        return {key: item for part in parts for key, item in part.items()}
    if value is None or isinstance(value, (bool, int, float)):
        return {name: value}
    return {name: digest_of([json.dumps(_plain(value), sort_keys=True)])[:16]}


def check_same_run(saved: Mapping[str, Any], now: Mapping[str, Any], filename: str) -> None:
    """Compare the description in a state with this run's; raise CheckpointMismatchError, which names the differences."""
    differences = []
    for name in dict.fromkeys([*now, *saved]):
        values = saved.get(name), now.get(name)
        if values[0] != values[1]:
            before, after = ("not given" if value is None else value for value in values)
            digests = any(isinstance(value, str) for value in values)
            differences.append(name if digests else f"{name} ({before} then, {after} now)")
    if differences:
        raise CheckpointMismatchError(
            f"'{filename}' belongs to another request, which differs in: {list_names(differences, 5, longest=None)}. "
            "Use the same options and data, or start anew in another --work-dir"
        )


def _plain(value: Any) -> Any:
    """Convert a value to JSON that is the same in every process: real paths, digests of arrays, names of types and functions."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return os.path.realpath(value) if os.sep in value and os.path.exists(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, Tensor)):
        array = value.detach().cpu().reshape(-1).view(torch.uint8).numpy() if isinstance(value, Tensor) else value
        content = f"{value.dtype}{tuple(value.shape)}".encode() + np.ascontiguousarray(array).tobytes()
        return hashlib.sha256(content).hexdigest()
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _probe(stream: Any) -> str | None:
    """Compute a digest of the stream's first items; None if they differ each time they are read."""
    positions = range(min(PROBED, len(stream)))
    first, second = (digest_of([json.dumps([_plain(stream[k]) for k in positions])]) for _ in range(2))
    return first if first == second else None
