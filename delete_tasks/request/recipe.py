"""``unlearn = dict(...)``: its options, and what they replace in a training config."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mmengine.registry import HOOKS

from ..errors import RequestError
from ..methods.registry import GROUP
from ..plugins import import_offered
from .classes import choose
from .config_checks import REPLACED, check_optimizer, kept_wrapper, refuse_keepers, registered
from .ranges import whole
from .schedules import SCHEDULES, schedulers


@dataclass(frozen=True)
class Recipe:
    """How an unlearning run trains. These replace the training recipe of the config.

    Attributes:
        steps: Optimizer steps, at most.
        optimizer: An mmengine optimizer config.
        schedule: Of the learning rate: 'constant'; 'cosine' falls to 0 over the steps (SGDR, arXiv 1608.03983, one cycle);
            'warmup_cosine' first rises over a tenth of them.
        batch_size: Samples per process; None keeps the config's.
        teacher: The original's checkpoint; None takes ``load_from``.
        checkpoint_interval: Optimizer steps between saved states.
        keep_states: Leave the last state, from which a run can go on, when the run is complete.
        overwrite: Take a work dir that holds other files, too; those of the names this run writes are replaced.
        keep_row: Publish the last layer with the forgotten classes' rows in it, see :func:`delete_tasks.model.head.neutralise_rows`.
        cache_teacher: Keep the teacher's outputs of views it has seen, in memory up to 1 GiB, then in a file without a
            name, which goes with the process. 'auto' does so where views of a sample come again; True or False.
        match_scale: Bring the logits back to the scale of the original's, where the task does so.
    """

    steps: int = 200
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "AdamW", "lr": 1e-4})
    schedule: str = "constant"
    batch_size: int | None = None
    teacher: str | None = None
    checkpoint_interval: int = 25
    keep_states: bool = False
    overwrite: bool = False
    keep_row: bool = False
    match_scale: bool = True
    cache_teacher: str | bool = "auto"

    def __post_init__(self) -> None:
        for name, most in (("steps", 10**9), ("batch_size", 10**6), ("checkpoint_interval", 10**9)):
            if name != "batch_size" or self.batch_size is not None:
                whole(f"unlearn.{name}", getattr(self, name), 1, most)
        if self.cache_teacher != "auto" and not isinstance(self.cache_teacher, bool):
            raise RequestError(f"unlearn.cache_teacher must be 'auto', True or False, got {self.cache_teacher!r}")
        choose("unlearn.schedule", self.schedule, SCHEDULES)
        if self.teacher is not None and not (isinstance(self.teacher, str) and self.teacher):
            raise RequestError(f"unlearn.teacher must be the path of the original's checkpoint, got {self.teacher!r}")
        check_optimizer(self.optimizer)
        for name in ("keep_row", "match_scale", "keep_states", "overwrite"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"unlearn.{name} must be True or False, got {getattr(self, name)!r}")


def split_options(unlearn: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """``unlearn`` -> the recipe, and the config of the method's hook.

    Raises:
        RequestError: ``unlearn`` is no dict, its type is no method, or an option is not known.
    """
    if not isinstance(unlearn, Mapping):
        raise RequestError(f"unlearn must be a dict such as dict(type='DELETE', classes=['car']), got {unlearn!r}")
    options = dict(unlearn)
    name = options.get("type", "DELETE")
    method = registered(HOOKS, name)
    if method is None and isinstance(name, str) and import_offered("method", name, GROUP, HOOKS.module_dict):
        method = registered(HOOKS, name)
    from ..methods.base import UnlearnHook

    if method is None or not (inspect.isclass(method) and issubclass(method, UnlearnHook)):
        kinds = HOOKS.module_dict.items()
        known = sorted(name for name, kind in kinds if inspect.isclass(kind) and issubclass(kind, UnlearnHook))
        close = difflib.get_close_matches(str(options.get("type")), known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise RequestError(
            f"unlearn.type={options.get('type')!r} is no unlearning method; known: {', '.join(known)}{hint}"
        )
    options.setdefault("type", "DELETE")
    recipe_names = {f.name for f in fields(Recipe)}
    hook_names = set(method.option_names())
    unknown = set(options) - recipe_names - hook_names - {"type"}
    if unknown:
        raise RequestError(
            f"unknown option(s) in unlearn: {', '.join(sorted(unknown))}; "
            f"{options['type']} takes {', '.join(sorted(recipe_names | hook_names))}"
        )
    recipe = Recipe(**{name: options.pop(name) for name in list(options) if name in recipe_names})
    return recipe, options


def apply_recipe(cfg: Any) -> Any:
    """A training config -> the config of an unlearning run: data, model and hooks stay, the training recipe goes.

    Args:
        cfg: mmengine Config with ``unlearn`` and ``load_from``; not changed.

    Raises:
        RequestError: ``unlearn`` or ``load_from`` is missing or wrong, or a hook would keep the original.
    """
    cfg = copy.deepcopy(cfg)
    if cfg.get("unlearn") is None:
        raise RequestError("UnlearnRunner needs unlearn = dict(type='DELETE', classes=[...]) in the config")
    if not cfg.get("load_from"):
        raise RequestError(
            "UnlearnRunner needs load_from = 'the_model.pth', the checkpoint of the model that is to forget"
        )
    recipe, _ = split_options(cfg.unlearn)
    scope = cfg.get("default_scope")
    refuse_keepers(cfg.get("default_hooks"), cfg.get("custom_hooks"), scope)
    no_downloads(cfg.model)
    if cfg.get("train_dataloader") is None:
        raise RequestError("UnlearnRunner needs a train_dataloader, from which the forget set is taken")
    if recipe.batch_size is not None:
        cfg.train_dataloader.batch_size = recipe.batch_size
    else:
        whole("train_dataloader.batch_size (or unlearn.batch_size)", cfg.train_dataloader.get("batch_size"), 1, 10**6)

    whole("train_dataloader.num_workers", cfg.train_dataloader.get("num_workers", 0), 0, 1024)

    kept = kept_wrapper(cfg.get("optim_wrapper") or {}, scope)
    cfg.optim_wrapper = {**kept, "optimizer": dict(recipe.optimizer)}
    cfg.train_cfg = {
        "type": "IterBasedTrainLoop",
        "max_iters": recipe.steps * accumulation(cfg.optim_wrapper),
        "val_interval": 10**9,
    }
    cfg.param_scheduler = schedulers(recipe.schedule, recipe.steps) or None
    cfg.auto_scale_lr = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    hooks = dict(cfg.get("default_hooks") or {})
    hooks["checkpoint"] = {"type": "UnlearnCheckpointHook", "interval": recipe.checkpoint_interval}
    hooks["param_scheduler"] = {"type": "StepSchedulerHook"}
    logger = dict(hooks.get("logger") or {"type": "LoggerHook"})
    logger["interval"] = min(int(logger.get("interval", 10)), max(1, recipe.steps // 20))
    hooks["logger"] = logger
    cfg.default_hooks = hooks
    cfg.log_processor = {**(cfg.get("log_processor") or {}), "by_epoch": False}
    randomness = dict(cfg.get("randomness") or {})
    if randomness.get("seed") is None:
        randomness["seed"] = 0
    cfg.randomness = randomness
    return cfg


def replaced_parts(cfg: Any) -> list[str]:
    """What of a config's ``optim_wrapper``, beside its optimizer, has no effect in an unlearning run."""
    wrapper = cfg.get("optim_wrapper") or {}
    return [f"optim_wrapper.{name}" for name in REPLACED[1:] if wrapper.get(name) is not None]


def accumulation(optim_wrapper: Mapping[str, Any]) -> int:
    """Iterations per optimizer step."""
    return int(optim_wrapper.get("accumulative_counts", 1))


def no_downloads(model: Any) -> None:
    """Take ``pretrained`` and ``init_cfg`` checkpoints out of a model config: the weights come from ``load_from``."""
    if isinstance(model, Mapping):
        if model.get("pretrained") is not None:
            model["pretrained"] = None  # type: ignore[index]
        init = model.get("init_cfg")
        if isinstance(init, Mapping) and init.get("type") == "Pretrained":
            model["init_cfg"] = None  # type: ignore[index]
        for value in model.values():
            no_downloads(value)
    elif isinstance(model, (list, tuple)):
        for value in model:
            no_downloads(value)
