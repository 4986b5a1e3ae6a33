"""Description of a run, which is kept in its states and compared when it is resumed."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import HOOKS
from torch import Tensor

from ..errors import CheckpointMismatchError, list_names
from ..request.config_checks import registered
from ..task import Run
from .forget_set import digest_of

PROBED = 4  # first items of the stream, looked at where no config says what the data are


def describe_run(runner: Run) -> dict[str, Any]:
    """Describe all that the run's result depends on, by name; its train loop must be built.

    Numbers are as they are, the rest are digests: a state must not tell what was forgotten. A hook that changes the model before
    the first step has ``begins_with``, its options by name.
    """
    recipe, loader, chosen = runner.recipe, runner.train_dataloader, runner.selection
    # Of the user's own hooks, those that say so; others look on.
    hooks = [hook for hook in runner.cfg.get("custom_hooks") or () if _part_of_recipe(hook)]
    parts: dict[str, Any] = {
        "unlearn": {
            **runner.method_config,
            "classes": chosen.forget_ids,
            "optimizer": dict(recipe.optimizer),
            "schedule": recipe.schedule,
        },
        "seed": runner.seed,
        "processes": runner.world_size,
        "batch_size": loader.batch_size,
        "optim_wrapper": runner.wrapper_config,
        "forget set": chosen.forget_set,
        "retain set": chosen.retain_set,
        "public data": chosen.public_data,
        "trained parameters": [n for n, p in runner.unwrapped_model.named_parameters() if p.requires_grad],
        "model": runner.cfg.get("model"),
        "custom_hooks": hooks or None,
        "begin": {name: value for hook in runner.hooks for name, value in getattr(hook, "begins_with", {}).items()},
    }
    if recipe.schedule != "constant" or hooks:
        parts["unlearn"]["steps"] = recipe.steps
    if chosen.dataset_config is not None:
        parts["train_dataloader.dataset"] = chosen.dataset_config
    else:
        parts["first samples"] = _probe(loader.dataset)
    return describe(parts)


def describe(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as they are, by name, and the rest as digests."""
    return dict(_flat("", parts))


def _part_of_recipe(hook: Any) -> bool:
    kind = registered(HOOKS, hook.get("type")) if isinstance(hook, Mapping) else type(hook)
    return bool(getattr(kind, "part_of_recipe", False))


def check_same_run(saved: Mapping[str, Any], now: Mapping[str, Any], filename: str) -> None:
    """Refuse to go on with another run: ``saved`` is its description in the state, ``now`` that of the run that goes on.

    Raises:
        CheckpointMismatchError: They differ; the message names in what.
    """
    different = [
        _difference(name, saved.get(name), now.get(name))
        for name in dict.fromkeys([*now, *saved])
        if saved.get(name) != now.get(name)
    ]
    if different:
        raise CheckpointMismatchError(
            f"'{filename}' belongs to another request, which differs in: {list_names(different, 5, longest=None)}. "
            "Use the same options and data, or start anew in another --work-dir"
        )


def _difference(name: str, then: Any, now: Any) -> str:
    shown = ["not given" if value is None else value for value in (then, now)]
    return name if isinstance(then, str) or isinstance(now, str) else f"{name} ({shown[0]} then, {shown[1]} now)"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _flat(f"{name}.{key}" if name else str(key), value[key])
    elif value is None or isinstance(value, (bool, int, float)):
        yield name, value
    else:
        yield name, digest_of([json.dumps(_plain(value), sort_keys=True)])[:16]


def _plain(value: Any) -> Any:
    """JSON that is the same in every process: paths as they are on the disk, classes and functions by name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return os.path.realpath(value) if os.sep in value and os.path.exists(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, Tensor)):
        return _bytes_of(value).hexdigest()
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _probe(stream: Any) -> str | None:
    """Digest of the stream's first items, or None if they are not the same each time they are read."""
    places = range(min(PROBED, len(stream)))
    first, second = (digest_of(["".join(_bytes_of(stream[k]).hexdigest() for k in places)]) for _ in range(2))
    return first if first == second else None


def _bytes_of(item: Any, digest: Any = None) -> Any:
    digest = digest or hashlib.sha256()
    if isinstance(item, Mapping):
        for key in item:
            digest.update(str(key).encode())
            _bytes_of(item[key], digest)
    elif isinstance(item, (np.ndarray, Tensor)):
        array = item.detach().cpu().reshape(-1).view(torch.uint8).numpy() if isinstance(item, Tensor) else item
        digest.update(f"{item.dtype}{tuple(item.shape)}".encode() + np.ascontiguousarray(array).tobytes())
    elif isinstance(item, Sequence) and not isinstance(item, (str, bytes)):
        for part in item:
            _bytes_of(part, digest)
    else:
        digest.update(repr(_plain(item)).encode())
    return digest
