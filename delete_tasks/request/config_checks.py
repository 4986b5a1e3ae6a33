"""Checks of a training config's hooks, optimizers and wrappers, which an unlearning run takes in part or refuses."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import DATASETS, HOOKS, OPTIM_WRAPPERS, OPTIMIZERS, Registry
from torch import nn

from ..errors import RequestError, UnsupportedModelError
from .ranges import number, whole

# Hooks that keep, average in or prefer the weights of the model that is to forget.
KEEPERS = {
    EMAHook: "it averages the original's weights into the result; remove it from the hooks",
    EarlyStoppingHook: "it stops on a metric that forgetting is meant to lower; use unlearn.stop instead",
}
# Parts of optim_wrapper that belong to the training recipe, which unlearn replaces.
REPLACED = ("optimizer", "paramwise_cfg", "constructor")


SPELLING = "check its spelling, and that custom_imports names the module that defines it"


def registered(registry: Registry, kind: Any, scope: str | None = None) -> Any:
    """Look up a config's ``type``; None if it is not registered."""
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as own:
        try:
            return own.get(kind)
        except RuntimeError:
            return None


def refuse_keepers(default_hooks: Any, custom_hooks: Any, scope: str | None = None) -> None:
    """Raise RequestError if a hook would keep or prefer the original model. Hooks are as in a config, dicts with ``type`` that
    are looked for in its default ``scope``, or objects."""
    for hook in [*(default_hooks or {}).values(), *(custom_hooks or [])]:
        given = isinstance(hook, Mapping)
        kind = registered(HOOKS, hook.get("type"), scope) if given else type(hook)
        if kind is None and given and "type" in hook:
            raise RequestError(f"no hook {hook['type']!r} is registered; {SPELLING}")
        reason = next((KEEPERS[c] for c in KEEPERS if inspect.isclass(kind) and issubclass(kind, c)), None)
        if reason is not None:
            raise RequestError(f"{kind.__name__} cannot be used in an unlearning run: {reason}")
        best = hook.get("save_best") if given else getattr(hook, "save_best", None)
        if best:
            raise RequestError(
                f"save_best={best!r} cannot be used in an unlearning run: the best by that metric is the "
                "original; remove save_best from the checkpoint hook"
            )


def build_dataset(config: Mapping[str, Any]) -> Any:
    """Build the dataset of a config's ``train_dataloader``.

    Raises:
        RequestError: Its type is not registered, or does not take its options.
    """
    if registered(DATASETS, config.get("type")) is None:
        raise RequestError(
            f"no dataset {config.get('type')!r} is registered (train_dataloader.dataset.type); {SPELLING}"
        )
    try:
        return DATASETS.build(config)
    except UnsupportedModelError:
        raise
    except TypeError as error:
        raise RequestError(f"train_dataloader.dataset cannot be built: {error}") from error


def kept_wrapper(wrapper: Mapping[str, Any], scope: str | None = None) -> dict[str, Any]:
    """Take the parts that belong to the training recipe out of a config's ``optim_wrapper``.

    Raises:
        RequestError: A type that is not known, an option that it does not take, or one out of its range.
    """
    kind = wrapper.get("type", "OptimWrapper")
    found = registered(OPTIM_WRAPPERS, kind, scope)
    if found is None:
        raise RequestError(f"no optim_wrapper {kind!r} is registered; there are: {_names(OPTIM_WRAPPERS)}")
    takes = set(_parameters(found)) - {"optimizer"}
    unknown = set(wrapper) - takes - {"type", *REPLACED}
    if unknown:
        raise RequestError(
            f"optim_wrapper has {', '.join(sorted(unknown))}, which {getattr(found, '__name__', kind)} does not take; it takes "
            f"{', '.join(sorted(takes))}. Correct or remove it"
        )
    if inspect.isclass(found) and issubclass(found, AmpOptimWrapper) and get_device() == "cpu":
        raise RequestError(
            "AmpOptimWrapper needs a GPU, and there is none; for bfloat16 on a CPU take the option --amp of `delete-tasks`, or "
            "type='CpuAmpOptimWrapper'"
        )
    whole("optim_wrapper.accumulative_counts", wrapper.get("accumulative_counts", 1), 1, 1_000_000)
    kept = {"type": kind, **{name: value for name, value in wrapper.items() if name in takes}}
    if kept.get("clip_grad") is not None:
        kept["clip_grad"] = _check_clipping(kept["clip_grad"])
    return kept


def _parameters(found: Any) -> Iterator[str]:
    for klass in inspect.getmro(found) if inspect.isclass(found) else (found,):
        function = vars(klass).get("__init__") if inspect.isclass(klass) else klass
        if function is not None and klass is not object:
            skip = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            taken = inspect.signature(function).parameters.items()
            yield from (name for name, parameter in taken if parameter.kind not in skip and name != "self")


def _names(registry: Registry) -> str:
    return ", ".join(sorted(registry.module_dict))


CLIPPING = {
    "norm": ("max_norm", {"norm_type", "error_if_nonfinite", "foreach"}),
    "value": ("clip_value", {"foreach"}),
}


def _check_clipping(clip: Any) -> dict[str, Any]:
    """``clip_grad``, as a dict of its own, since OptimWrapper takes its type out."""
    kind = clip.get("type", "norm") if isinstance(clip, Mapping) else None
    if kind not in CLIPPING:
        raise RequestError(
            "optim_wrapper.clip_grad must be a dict such as dict(max_norm=1.0) or dict(type='value', clip_value=0.1), got "
            f"{clip!r}"
        )
    limit, others = CLIPPING[kind]
    unknown = set(clip) - {"type", limit} - others
    if unknown:
        raise RequestError(
            f"optim_wrapper.clip_grad has {', '.join(sorted(unknown))}; of type {kind!r} it takes "
            f"{', '.join(sorted({limit, *others}))}"
        )
    number(f"optim_wrapper.clip_grad.{limit}", clip.get(limit), 0, 1e9, above=True)
    return dict(clip)


def check_optimizer(options: Any, scope: str | None = None) -> None:
    """Refuse an optimizer config that cannot be built, by building one for a lone number.

    Raises:
        RequestError: No dict with a type that is registered, or options out of their range.
    """
    if not isinstance(options, Mapping) or "type" not in options:
        raise RequestError(f"unlearn.optimizer needs a type, e.g. dict(type='AdamW', lr=1e-4); got {options}")
    found = registered(OPTIMIZERS, options["type"], scope)
    if found is None:
        close = difflib.get_close_matches(str(options["type"]), OPTIMIZERS.module_dict, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise RequestError(f"no optimizer {options['type']!r} is registered.{hint} There are: {_names(OPTIMIZERS)}")
    if "lr" in options:
        number("unlearn.optimizer.lr", options["lr"], 0, 1000, above=True)
    if "weight_decay" in options:
        number("unlearn.optimizer.weight_decay", options["weight_decay"], 0, 1000)
    for name, value in options.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, float):
                number(f"unlearn.optimizer.{name}", part, -1e9, 1e9)
    try:
        found([nn.Parameter(torch.zeros(1))], **{name: value for name, value in options.items() if name != "type"})
    except (TypeError, ValueError, AssertionError) as error:
        raise RequestError(
            f"unlearn.optimizer: {options['type']} cannot be made with {dict(options)}: {error}"
        ) from error
    except Exception:
        return  # what it says of a single number on the CPU says nothing of the model's
