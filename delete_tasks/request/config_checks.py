"""Checks of a training config's hooks, dataset, optimizer and optimizer wrapper."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import DATASETS, HOOKS, OPTIM_WRAPPERS, OPTIMIZERS, Registry
from torch import nn

from ..errors import RequestError, UnsupportedModelError, did_you_mean
from .ranges import number, whole

# Hooks that keep, average or prefer the original's weights.
KEEPERS = {
    EMAHook: "it averages the original's weights into the result; remove it from the hooks",
    EarlyStoppingHook: "it stops on a metric that forgetting is meant to lower; use unlearn.stop instead",
}
OF_EVERY_HOOK = ("type", "priority", "_scope_")
# Parts of optim_wrapper that belong to the training recipe, which unlearn replaces.
REPLACED = ("optimizer", "paramwise_cfg", "constructor")
SPELLING = "check its spelling, and that custom_imports names the module that defines it"


def registered(registry: Registry, kind: Any, scope: str | None = None) -> Any:
    """Look up a config's ``type``; None if it is not registered."""
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as scoped:
        try:
            return scoped.get(kind)
        except (RuntimeError, TypeError, ValueError):  # mmengine imports the module before a '.', whatever its name
            return None


def refuse_keepers(default_hooks: Any, custom_hooks: Any, scope: str | None = None) -> None:
    """Raise RequestError for a hook, object or config in the default ``scope``, that would keep or prefer the original model."""
    for hook in [*(default_hooks or {}).values(), *(custom_hooks or [])]:
        is_config = isinstance(hook, Mapping)
        kind = registered(HOOKS, hook.get("type"), scope) if is_config else type(hook)
        if kind is None and is_config and "type" in hook:
            raise RequestError(f"no hook {hook['type']!r} is registered; {SPELLING}")
        if is_config and inspect.isclass(kind):
            try:
                inspect.signature(kind).bind(**{name: hook[name] for name in hook if name not in OF_EVERY_HOOK})
            except TypeError as error:
                takes = ", ".join(parameters(kind)) or "no option"
                raise RequestError(f"the hook {kind.__name__}: {error}; it takes {takes}. Correct them") from error
        reason = next((KEEPERS[c] for c in KEEPERS if inspect.isclass(kind) and issubclass(kind, c)), None)
        if reason is not None:
            raise RequestError(f"{kind.__name__} cannot be used in an unlearning run: {reason}")
        best = hook.get("save_best") if is_config else getattr(hook, "save_best", None)
        if best:
            raise RequestError(
                f"save_best={best!r} cannot be used in an unlearning run: the best by that metric is the "
                "original; remove save_best from the checkpoint hook"
            )


def build_dataset(config: Mapping[str, Any]) -> Any:
    """Build the dataset of a config's ``train_dataloader``; raise RequestError for an unknown type or option."""
    if registered(DATASETS, config.get("type")) is None:
        kind = config.get("type")
        raise RequestError(f"no dataset {kind!r} is registered (train_dataloader.dataset.type); {SPELLING}")
    try:
        return DATASETS.build(config)
    except UnsupportedModelError:
        raise
    except TypeError as error:
        raise RequestError(f"train_dataloader.dataset cannot be built: {error}") from error


def kept_wrapper(wrapper: Mapping[str, Any], scope: str | None = None) -> dict[str, Any]:
    """Copy an ``optim_wrapper`` without the recipe's parts; raise RequestError for an unknown type or an invalid option."""
    kind = wrapper.get("type", "OptimWrapper")
    wrapper_class = registered(OPTIM_WRAPPERS, kind, scope)
    if wrapper_class is None:
        raise RequestError(f"no optim_wrapper {kind!r} is registered; there are: {_names(OPTIM_WRAPPERS)}")
    allowed = set(parameters(wrapper_class)) - {"optimizer"}
    unknown = set(wrapper) - allowed - {"type", *REPLACED}
    if unknown:
        raise RequestError(
            f"optim_wrapper has {', '.join(sorted(unknown))}, which {getattr(wrapper_class, '__name__', kind)} does not take; it "
            f"takes {', '.join(sorted(allowed))}. Correct or remove it"
        )
    if inspect.isclass(wrapper_class) and issubclass(wrapper_class, AmpOptimWrapper) and get_device() == "cpu":
        raise RequestError(
            "AmpOptimWrapper needs a GPU, and there is none; for bfloat16 on a CPU use the option --amp of `delete-tasks`, or "
            "type='CpuAmpOptimWrapper'"
        )
    whole("optim_wrapper.accumulative_counts", wrapper.get("accumulative_counts", 1), 1, 1_000_000)
    retained = {"type": kind, **{name: value for name, value in wrapper.items() if name in allowed}}
    if retained.get("clip_grad") is not None:
        _check_clipping(retained["clip_grad"])
        retained["clip_grad"] = dict(retained["clip_grad"])  # OptimWrapper takes its type out
    return retained


def parameters(function: Any) -> Iterator[str]:
    """Iterate over the names of the parameters of a function, or of a class and its bases."""
    if not inspect.isclass(function):
        functions = [function]
    else:
        functions = [vars(base)["__init__"] for base in inspect.getmro(function)[:-1] if "__init__" in vars(base)]
    for parameter in (parameter for each in functions for parameter in inspect.signature(each).parameters.values()):
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name != "self":
            yield parameter.name


def _names(registry: Registry) -> str:
    return ", ".join(sorted(registry.module_dict))


CLIPPING = {"norm": ("max_norm", {"norm_type", "error_if_nonfinite", "foreach"}), "value": ("clip_value", {"foreach"})}


def _check_clipping(clip: Any) -> None:
    kind = clip.get("type", "norm") if isinstance(clip, Mapping) else None
    if kind not in CLIPPING:
        expected = "a dict such as dict(max_norm=1.0) or dict(type='value', clip_value=0.1)"
        raise RequestError(f"optim_wrapper.clip_grad must be {expected}, got {clip!r}")
    limit, others = CLIPPING[kind]
    unknown = set(clip) - {"type", limit} - others
    if unknown:
        takes = ", ".join(sorted({limit, *others}))
        raise RequestError(
            f"optim_wrapper.clip_grad has {', '.join(sorted(unknown))}; of type {kind!r} it takes {takes}"
        )
    number(f"optim_wrapper.clip_grad.{limit}", clip.get(limit), 0, 1e9, above=True)


def check_optimizer(options: Any) -> None:
    """Build a config's optimizer for one parameter; raise RequestError for an unknown type or an invalid option."""
    if not isinstance(options, Mapping) or "type" not in options:
        raise RequestError(f"unlearn.optimizer needs a type, e.g. dict(type='AdamW', lr=1e-4); got {options}")
    optimizer_class = registered(OPTIMIZERS, options["type"])
    if optimizer_class is None:
        hint = did_you_mean(str(options["type"]), OPTIMIZERS.module_dict)
        raise RequestError(f"no optimizer {options['type']!r} is registered{hint} There are: {_names(OPTIMIZERS)}")
    for name in ("lr", "weight_decay"):
        if name in options:
            number(f"unlearn.optimizer.{name}", options[name], 0, 1000, above=name == "lr")
    for name, value in options.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, float):
                number(f"unlearn.optimizer.{name}", item, -1e9, 1e9)
    arguments = {name: value for name, value in options.items() if name != "type"}
    try:
        optimizer_class([nn.Parameter(torch.zeros(1))], **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise RequestError(f"unlearn.optimizer: {options['type']} cannot be built with {arguments}: {error}") from error
    except Exception:
        return  # an error with a single parameter on the CPU does not imply one with the model's
