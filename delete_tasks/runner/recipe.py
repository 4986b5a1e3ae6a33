"""Config of an unlearning run, made from a training config, its options, and its mixed precision on a CPU."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import nn

from ..errors import RequestError, did_you_mean
from ..methods.base import UnlearnHook
from ..methods.registry import GROUP
from ..plugins import import_offered
from ..request.config import schedulers
from ..request.config_checks import REPLACED, kept_wrapper, parameters, refuse_keepers, registered
from ..request.ranges import whole
from ..request.recipe import Recipe


def split_options(unlearn: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Split ``unlearn`` into the recipe and the config of the method's hook; raise RequestError for what is neither."""
    if not isinstance(unlearn, Mapping):
        raise RequestError(f"unlearn must be a dict such as dict(type='DELETE', classes=['car']), got {unlearn!r}")
    options = {"type": "DELETE", **unlearn}
    name = options["type"]
    method = registered(HOOKS, name)
    if method is None and isinstance(name, str) and import_offered("method", name, GROUP, HOOKS.module_dict):
        method = registered(HOOKS, name)
    if not (inspect.isclass(method) and issubclass(method, UnlearnHook)):
        kinds = sorted(HOOKS.module_dict.items(), key=lambda item: (item[0] != "DELETE", item[0]))
        names = [key for key, kind in kinds if inspect.isclass(kind) and issubclass(kind, UnlearnHook)]
        hint = did_you_mean(str(name), names)
        raise RequestError(f"unlearn.type={name!r} is no unlearning method{hint} There are: {', '.join(names)}")
    recipe_names = {f.name for f in fields(Recipe)}
    hook_names = set(parameters(method))
    unknown = set(options) - recipe_names - hook_names - {"type"}
    if unknown:
        takes = ", ".join(sorted(recipe_names | hook_names))
        raise RequestError(f"unknown option(s) in unlearn: {', '.join(sorted(unknown))}; {name} takes {takes}")
    return Recipe(**{name: options.pop(name) for name in list(options) if name in recipe_names}), options


def apply_recipe(cfg: Any) -> Any:
    """Convert a training config (with ``unlearn`` and ``load_from``; unchanged) to an unlearning run's: the same data, model and
    hooks, and another recipe. Raise :class:`RequestError` if either is missing or wrong, or a hook would keep the original."""
    cfg = copy.deepcopy(cfg)
    if cfg.get("unlearn") is None:
        raise RequestError("UnlearnRunner needs unlearn = dict(type='DELETE', classes=[...]) in the config")
    if not cfg.get("load_from"):
        raise RequestError("UnlearnRunner needs load_from = 'the_model.pth', the checkpoint of the original model")
    recipe, _ = split_options(cfg.unlearn)
    scope = cfg.get("default_scope")
    refuse_keepers(cfg.get("default_hooks"), cfg.get("custom_hooks"), scope)
    no_downloads(cfg.model)
    if cfg.get("train_dataloader") is None:
        raise RequestError("UnlearnRunner needs a train_dataloader, from which the forget set is selected")
    if recipe.batch_size is not None:
        cfg.train_dataloader.batch_size = recipe.batch_size
    else:
        whole("train_dataloader.batch_size (or unlearn.batch_size)", cfg.train_dataloader.get("batch_size"), 1, 10**6)
    whole("train_dataloader.num_workers", cfg.train_dataloader.get("num_workers", 0), 0, 1024)

    cfg.optim_wrapper = {**kept_wrapper(cfg.get("optim_wrapper") or {}, scope), "optimizer": dict(recipe.optimizer)}
    cfg.train_cfg = {
        "type": "IterBasedTrainLoop",
        "max_iters": recipe.steps * int(cfg.optim_wrapper.get("accumulative_counts", 1)),
        "val_interval": 10**9,
    }
    cfg.param_scheduler = schedulers(recipe.schedule, recipe.steps) or None
    cfg.auto_scale_lr = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    hooks = cfg.get("default_hooks") or {}
    logger = hooks.get("logger") or {"type": "LoggerHook"}
    cfg.default_hooks = {
        **hooks,
        "checkpoint": {"type": "UnlearnCheckpointHook", "interval": recipe.checkpoint_interval},
        "param_scheduler": {"type": "StepSchedulerHook"},
        "logger": {**logger, "interval": min(int(logger.get("interval", 10)), max(1, recipe.steps // 20))},
    }
    cfg.log_processor = {**(cfg.get("log_processor") or {}), "by_epoch": False}
    randomness = cfg.get("randomness") or {}
    seed = randomness.get("seed")  # an empty text is refused by the runner
    cfg.randomness = {**randomness, "seed": 0 if seed is None else seed}
    return cfg


def replaced_parts(cfg: Any) -> list[str]:
    """List the parts of a config's ``optim_wrapper``, other than its optimizer, that have no effect in an unlearning run."""
    wrapper = cfg.get("optim_wrapper") or {}
    return [f"optim_wrapper.{name}" for name in REPLACED[1:] if wrapper.get(name) is not None]


def no_downloads(model: Any) -> None:
    """Remove ``pretrained`` and ``init_cfg`` checkpoints from a model config: the weights come from ``load_from``."""
    if isinstance(model, Mapping):
        if model.get("pretrained") is not None:
            model["pretrained"] = None  # type: ignore[index]
        init = model.get("init_cfg")
        if isinstance(init, Mapping) and init.get("type") == "Pretrained":
            model["init_cfg"] = None  # type: ignore[index]
        model = list(model.values())
    for value in model if isinstance(model, (list, tuple)) else ():
        no_downloads(value)


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, which mmengine's ``AmpOptimWrapper`` refuses: the forward pass in bfloat16, weights and optimizer
    in float32. bfloat16 has the exponents of float32, so gradients need no scaling, and the optimizer's state is complete."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
