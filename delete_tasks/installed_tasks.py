"""The tasks of installed plugins, which are loaded when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

from .errors import MissingExtraError, RequestError, first_line
from .plugins import plugin_modules
from .task import TASKS, Task

T = TypeVar("T")


def ask_tasks(
    question: Callable[[Task], T | None],
    model: str,
    name: str | None = None,
    lacks: Callable[[Task], str | None] = lambda task: None,
) -> tuple[Task, T]:
    """The first installed task that answers a question about a model, and its answer.

    Args:
        question: None is no answer.
        model: What the user named, for the message.
        name: Of the only task to ask; None asks all.
        lacks: What such a task does not offer, in words; None where it offers it.

    Raises:
        RequestError: No task answers; the message says which were asked.
    """
    missing = []
    names = [name] if name is not None else sorted(plugin_modules())
    for each in names:
        try:
            task = load_task(each)
        except MissingExtraError as error:
            if name is not None:
                raise
            missing.append(f"{each} ({first_line(error)})")
            continue
        reason = lacks(task)
        if name is not None and reason is not None:
            raise RequestError(f"{name} does not offer {reason}")
        answer = question(task)
        if answer is not None:
            return task, answer
    lacking = f" Not installed: {'; '.join(missing)}." if missing else ""
    raise RequestError(
        f"none of the tasks {', '.join(names)} takes '{model}' as a model: expected a model folder (model.json and "
        f"weights.safetensors), or a checkpoint together with the --config of its run.{lacking}"
    )


def load_task(name: str) -> Task:
    """The task that an installed plugin registers under its command's name.

    Raises:
        RequestError: No such plugin is installed.
        MissingExtraError: It is, but not what it needs.
    """
    if name not in TASKS:
        modules = plugin_modules()
        if name not in modules:
            raise RequestError(f"no task '{name}' is installed; there are: {', '.join(sorted(modules)) or 'none'}")
        module = importlib.import_module(modules[name])
        if name not in TASKS:
            importlib.import_module(f"{module.__name__}.register")
    return TASKS[name]
