"""Configs and Runners of unlearning runs on classifiers: recipes, and a Runner over objects in memory."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
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
from delete_tasks.request.config import change_config, check_sections, load_config
from delete_tasks.runner.recipe import apply_recipe
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .models.classifier import ImageClassifier
from .models.model_file import WEIGHTS_NAME
from .recipes import BASE, RECIPES


def default_recipe(method: str, augment: str, parameters: int, beside: bool = False) -> dict[str, Any]:
    """Make the options of ``unlearn`` that the user leaves open: one recipe for the command and for ``erase()``.

    Args:
        method: Of unlearning.
        augment: Of the forget set: 'plain' and 'none' are runs on images as they are, all else on strong views.
        parameters: Numbers in the network.
        beside: Whether a retain set or public data join the forget set.
    """
    return method_class(method).defaults(RECIPES, parameters=parameters, views=augment, beside=beside)


def parameters_in(weights: str) -> int:
    """Count the numbers in a weights file; 0 if there is none, since the run will say so.

    Raises:
        UnsafeCheckpointError: It needs pickle.
    """
    if not Path(weights).is_file():
        return 0
    return sum(value.numel() for value in state_dict_of(load_once(weights), f"'{weights}'").values())


def begin_config(config: str | None, options: Mapping[str, Any], needed: Sequence[str], kind: str) -> Config:
    """Load a file's config, or make a new one, with the command line's changes and model.

    Args:
        config: Path, or None.
        options: Of the command line: ``model``, ``allow_import``, perhaps ``cfg_options``, and those that are needed.
        needed: Names of the options that a new config takes.
        kind: Begins the names of the classes of model and dataset: 'Image' or 'Backdoor'.

    Raises:
        RequestError: Neither a config nor what it takes; see :func:`delete_tasks.request.config.load_config`.
    """
    if config is not None:
        cfg = load_config(config)
    else:
        *names, last = [f"--{name}" for name in needed]
        missing = [f"--{name}" for name in needed if not options[name]]
        if missing:
            raise RequestError(f"{', '.join(missing)} missing: give {', '.join(names)} and {last}, or --config")
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
    return cfg


def unlearn_options(classes: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make ``unlearn = dict(...)`` for classifiers: ``given`` (``lr`` among it; None is not given) over the recipes' base."""
    options = {name: value for name, value in given.items() if value is not None}
    rate = options.pop("lr", None)
    optimizer = dict(options.pop("optimizer", BASE["optimizer"]))
    if rate is not None or "lr" not in optimizer:
        optimizer["lr"] = method_class(method).rate if rate is None else rate
    return {"type": method, "classes": classes, **BASE, "optimizer": optimizer, **options}


def method_class(name: str) -> Any:
    """Find the hook class of a method.

    Raises:
        RequestError: There is none of that name.
    """
    from delete_tasks.methods.options import split_options

    split_options({"type": name})
    return HOOKS.get(name)


def check_retain(method: str, retain: Any, public: bool = False) -> None:
    """Refuse a retain set, or public data, where the method would leave it unread, and none where the method learns from nothing
    else.

    Raises:
        RequestError: Either.
    """
    kind = method_class(method)
    if public and "public" not in kind.option_names():
        raise RequestError(f"{method} reads no public data; leave public out, or use method='DeepDELETE' (--deep)")
    if retain is not None and not kind.uses_retain_set:
        raise RequestError(f"{method} learns nothing from a retain set; leave retain out, or use method='DELETE'")
    if retain is None and kind.needs_retain_set:
        raise RequestError(
            f"{method} learns from a retain set with labels alone; give one (--retain), or use method='DELETE'"
        )


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Select the tensors of a state dict, in which a module may keep other state."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


class RunnerInMemory(UnlearnRunner):
    """An UnlearnRunner whose original is a model in memory: nothing of it is written.

    Args:
        original: An ImageClassifier, equal to ``model``; becomes the teacher.
        at_the_end: Called once, when training is over and the last layer as training left it.
        arguments: As UnlearnRunner.
    """

    def __init__(
        self, *arguments: Any, original: ImageClassifier, at_the_end: Callable[[], None], **options: Any
    ) -> None:
        self._original, self._at_the_end = original, at_the_end
        super().__init__(*arguments, **options)

    @property
    def teacher_path(self) -> str:
        return "the model in memory"

    @cached_property
    def _teacher(self) -> tuple[nn.Module, str]:
        digest = tensors_sha256(tensors(self._original.state_dict()))
        return freeze(
            self._original.to(next(self.unwrapped_model.parameters()).device), self.task.training_flags
        ), digest

    @property
    def teacher(self) -> nn.Module:
        return self._teacher[0]

    @property
    def teacher_sha256(self) -> str:
        return self._teacher[1]

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
    """Build an UnlearnRunner over a model and a dataset in memory.

    Args:
        model: An ImageClassifier.
        dataset: With a method ``collate``.
        load_from: The original's weights; or the original itself, an equal model, which is never written.
        work_dir: Where the run's state goes.
        unlearn: As in a config.
        at_the_end: See :class:`RunnerInMemory`.
        options: ``device, seed, resume, num_workers, log_level, name, hooks``; ``states``, False to keep none.
    """
    in_memory = not isinstance(load_from, str)
    cfg = apply_recipe(
        Config({"model": {}, "unlearn": unlearn, "load_from": str(in_memory), "train_dataloader": {"batch_size": 1}})
    )
    hooks = cfg.default_hooks.to_dict()
    if not options.get("states", True):
        hooks["checkpoint"] = None
    given: dict[str, Any] = {"load_from": load_from}
    if in_memory:
        given = {"original": load_from, "at_the_end": at_the_end}
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
        **given,
    )


def release_runner(name: str) -> None:
    """Close a runner's log and drop what mmengine keeps of each runner for the life of the process."""
    for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
        kept: dict[str, Any] = kind._instance_dict
        for key in [key for key in kept if key.startswith(name)]:
            instance = kept.pop(key)
            if isinstance(instance, logging.Logger):
                for handler in list(instance.handlers):
                    instance.removeHandler(handler)
                    if isinstance(handler, logging.FileHandler):
                        # On a full disk; the error of the run itself, which names the file, is on its way.
                        with contextlib.suppress(OSError):
                            handler.close()
