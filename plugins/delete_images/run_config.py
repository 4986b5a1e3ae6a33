"""Configs and Runners of unlearning runs on classifiers."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer
from torch import Tensor, nn

import delete_tasks.methods.builtin  # noqa: F401
from delete_tasks.errors import RequestError
from delete_tasks.fileio.checkpoint import load_once, state_dict_of, tensors_sha256
from delete_tasks.model.teacher import freeze
from delete_tasks.request.classes import ForgetRequest
from delete_tasks.request.config import change_config, check_sections, load_config
from delete_tasks.request.config_checks import check_optimizer, parameters
from delete_tasks.runner.recipe import apply_recipe, split_options
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .models.classifier import ImageClassifier
from .models.model_file import WEIGHTS_NAME
from .recipes import BASE, RECIPES, SHORT


def default_method(
    views: Any, steps: Any, state: Mapping[str, Any], classes: int, public: bool = False, retain: bool = False
) -> str:
    """Choose the method: features are erased as well with public data, since that is what the data are for, and with strong
    views, which show other classes, if the run is long enough and a linear layer computes the logits of the ``classes``, by the
    shapes in the network's ``state``. It was not measured with a retain set. docs/notes/deep.md has the comparison."""
    linear = any(value.ndim == 2 and len(value) == classes for value in tensors(state).values())
    long = not isinstance(steps, int) or steps >= SHORT
    return "DeepDELETE" if public or (views == "strong" and linear and long and not retain) else "DELETE"


def default_recipe(
    method: str, augment: str, parameters: int, beside: bool = False, steps: int | None = None
) -> dict[str, Any]:
    """Make the default options of ``unlearn``, for the command and for ``erase()``: by method, views of the forget set, number of
    parameters, ``beside``: whether a retain set or public data are used with the forget set, and the chosen number of steps."""
    return method_class(method).defaults(RECIPES, parameters=parameters, views=augment, beside=beside, steps=steps)


def over_defaults(default: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Lay options over a method's; its rate goes if their optimizer has one, its guard (by running statistics) if norms train."""
    if "lr" in chosen.get("optimizer", {}):
        default.pop("lr", None)
    if chosen.get("norm_eval") is False:
        default.pop("guard", None)
    return {**default, **chosen}


def state_in(weights: str) -> dict[str, Tensor]:
    """Load the tensors of a weights file; none without a file, which the run will refuse."""
    return tensors(state_dict_of(load_once(weights), f"'{weights}'")) if Path(weights).is_file() else {}


def count(state: Mapping[str, Any]) -> int:
    """Count the parameters and the values of the buffers of a state dict."""
    return sum(value.numel() for value in tensors(state).values())


def begin_config(config: str | None, options: Mapping[str, Any], kind: str) -> Config:
    """Load a config, or make a new one, and apply the command's model and ``cfg_options``. ``kind`` is the prefix of the class
    names of model and dataset: 'Image' or 'Backdoor'. Raises as :func:`delete_tasks.request.config.load_config`."""
    if config is not None:
        cfg = load_config(config)
    else:
        loader = {
            "num_workers": 4 if torch.cuda.is_available() else 0,
            "sampler": {"type": "InfiniteSampler"},
            "collate_fn": {"type": "collate_images"},
            "dataset": {"type": f"{kind}Dataset"},
        }
        cfg = Config({"default_scope": "mmengine", "train_dataloader": loader})
    change_config(cfg, options.get("cfg_options"))
    check_sections(cfg, f"the config '{config}'" if config else "--cfg-options", ["train_dataloader.dataset"])
    if options["model"]:
        cfg.model = {"type": f"{kind}Classifier", "spec": options["model"], "allow_import": options["allow_import"]}
        cfg.load_from = str(Path(options["model"]) / WEIGHTS_NAME)
        cfg.train_dataloader.dataset.spec = options["model"]
    elif not cfg.get("load_from"):
        raise RequestError(f"'{config}' has no load_from; set it to the model's weights file, or give --model")
    return cfg


def unlearn_options(classes: Any, method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make ``unlearn = dict(...)``: ``options`` that are not None, which may include ``lr``, over the recipes' base."""
    unlearn = {name: value for name, value in options.items() if value is not None}
    optimizer = unlearn.pop("optimizer", BASE["optimizer"])
    if not isinstance(optimizer, Mapping):
        check_optimizer(optimizer)
    optimizer = dict(optimizer)
    if "lr" in unlearn or "lr" not in optimizer:
        optimizer["lr"] = unlearn.pop("lr", method_class(method).rate)
    return {"type": method, "classes": classes, **BASE, "optimizer": optimizer, **unlearn}


def method_class(name: str) -> Any:
    """Find the hook class of a method; raises RequestError for an unknown name."""
    split_options({"type": name})
    return HOOKS.get(name)


def request_of(unlearn: Mapping[str, Any]) -> ForgetRequest:
    """Read the request in ``unlearn``; raises RequestError for an invalid option."""
    request: ForgetRequest = HOOKS.build(split_options(unlearn)[1]).request
    return request


def check_retain(method: str, retain: Any, public: bool = False) -> None:
    """Raise RequestError if the method does not read the retain set or the public data, or needs a retain set and has none."""
    kind = method_class(method)
    if public and "public" not in parameters(kind):
        raise RequestError(f"{method} reads no public data; leave public out, or use method='DeepDELETE' (--deep)")
    if retain is not None and not kind.uses_retain_set:
        raise RequestError(f"{method} learns nothing from a retain set; leave retain out, or use method='DELETE'")
    if retain is None and kind.needs_retain_set:
        raise RequestError(f"{method} learns from a retain set with labels; give one (--retain) or use method='DELETE'")


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Select the tensors of a state dict, which may hold other state of a module."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


class RunnerInMemory(UnlearnRunner):
    """UnlearnRunner of an original in memory, never written; ``at_the_end`` runs after training, before :meth:`finish`."""

    def __init__(self, *, original: ImageClassifier, at_the_end: Callable[[], None], **options: Any) -> None:
        self._original, self._at_the_end = original, at_the_end
        super().__init__(**options)

    @property
    def teacher_path(self) -> str:
        return "the model in memory"

    @cached_property
    def teacher(self) -> nn.Module:
        return freeze(self._original.to(next(self.unwrapped_model.parameters()).device), self.task.training_flags)

    @cached_property
    def teacher_sha256(self) -> str:
        return tensors_sha256(tensors(self._original.state_dict()))

    def load_or_resume(self) -> None:
        last = self._last_state() if self._resume else None
        if last is not None:
            self.resume(last)
        self._has_loaded = True

    def finish(self) -> None:
        if self.outcome.finished is None:
            self._at_the_end()
        super().finish()


def build_runner(
    model: Any,
    dataset: Any,
    load_from: str | ImageClassifier,
    work_dir: str,
    unlearn: Any,
    at_the_end: Callable[[], None] = lambda: None,
    **options: Any,
) -> UnlearnRunner:
    """Build an UnlearnRunner over an ImageClassifier and a dataset with a method ``collate``, both in memory. ``load_from`` is
    the path of the original's weights, or an equal model, for :class:`RunnerInMemory`, as is ``at_the_end``. ``unlearn`` is as in
    a config. ``options``: ``device, seed, resume, num_workers, log_level, name, hooks``; ``states``, False to save none."""
    in_memory = not isinstance(load_from, str)
    sections = {"model": {}, "unlearn": unlearn, "load_from": str(in_memory), "train_dataloader": {"batch_size": 1}}
    cfg = apply_recipe(Config(sections))
    hooks = cfg.default_hooks.to_dict()
    if not options.get("states", True):
        hooks["checkpoint"] = None
    original = {"original": load_from, "at_the_end": at_the_end} if in_memory else {"load_from": load_from}
    return (RunnerInMemory if in_memory else UnlearnRunner)(
        model=model,
        work_dir=work_dir,
        train_dataloader={
            "dataset": dataset,
            "batch_size": unlearn["batch_size"],
            "num_workers": options.get("num_workers", 0),
            "collate_fn": dataset.collate,
            "sampler": None,
        },
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=hooks,
        custom_hooks=options.get("hooks"),
        log_processor=cfg.log_processor.to_dict(),
        resume=options.get("resume", False),
        randomness={"seed": options.get("seed", 0)},
        log_level=options.get("log_level", "WARNING"),
        experiment_name=options["name"],
        unlearn=cfg.unlearn.to_dict(),
        device=options.get("device"),
        **original,
    )


def release_runner(name: str) -> None:
    """Close a runner's log and delete the global objects that mmengine makes for each runner."""
    for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
        instances: dict[str, Any] = kind._instance_dict
        for key in [key for key in instances if key.startswith(name)]:
            instance = instances.pop(key)
            for handler in list(instance.handlers) if isinstance(instance, logging.Logger) else ():
                instance.removeHandler(handler)
                if isinstance(handler, logging.FileHandler):
                    # On a full disk; the run itself raises the error that names the file.
                    with contextlib.suppress(OSError):
                        handler.close()
