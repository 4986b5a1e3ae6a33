"""What a task plugin provides. The core asks these questions and never tests which task it is talking to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

from torch import Tensor, nn

from .errors import RequestError, UnsupportedModelError


@dataclass
class LossInputs:
    """What one call of a loss method was given, in the core's terms.

    Attributes:
        logits: One ``(N, C, *locations)`` tensor of class logits for each output that chooses a class.
        weights: The weight of each of them in the model's own loss.
        class_free: Outputs that know no classes (boundaries); they take part with weight zero, so that each
            parameter keeps a gradient, as DistributedDataParallel demands.
        labels: ``(N, *locations)`` integers, or None where there are none.
        valid: ``(N, *locations)`` booleans, False on padding; None where every location counts.
        unmasked: Booleans broadcastable to ``(N, *locations)``, True where nothing is masked whatever else holds (clean
            samples): there the loss is plain distillation. None where there are no such locations.
    """

    logits: list[Tensor]
    weights: list[float]
    class_free: list[Tensor] = field(default_factory=list)
    labels: Tensor | None = None
    valid: Tensor | None = None
    unmasked: Tensor | None = None


@dataclass(frozen=True)
class LossPoint:
    """A method in which the model computes a loss from its outputs: ``module.method(...) -> dict of losses``.

    ``read`` turns the method's arguments into :class:`LossInputs`.
    """

    name: str
    module: nn.Module
    method: str
    read: Callable[..., LossInputs]


@dataclass(frozen=True)
class OpenModels:
    """Models of one architecture, opened from what commands write, to be looked at or measured.

    Attributes:
        models: 'original', 'erased' and perhaps 'retrained', in that order, in eval mode on one device.
        class_names: In order of the logits, as the original names them.
        notes: What a reader of pictures and figures has to know of them.
        context: What else the task needs for :meth:`Task.looked_at`.
    """

    models: dict[str, nn.Module]
    class_names: Sequence[str]
    notes: Sequence[str] = ()
    context: Any = None


@dataclass(frozen=True)
class Sample:
    """One input as the models take it, and the class whose attention is asked for.

    Attributes:
        name: Stable, for tables.
        picture: uint8 RGB ``(H, W, 3)``, what the network sees, of the size of ``inputs``.
        inputs: float32 ``(3, H, W)``, preprocessed.
        class_id: Whose map.
        removed: The class was to be forgotten here; else it was to be kept.
        region: Booleans ``(H, W)``, where the class shows (its pixels, the face box, the trigger); None: the whole picture.
        region_is: What the region is, in words.
        caption: What the picture shows and whose map is drawn, in words; None names the class.
    """

    name: str
    picture: Any
    inputs: Tensor
    class_id: int
    removed: bool
    region: Any = None
    region_is: str = "whole picture"
    caption: str | None = None


class Task(Protocol):
    """One way of using a model: per pixel, per image, per face. Register an instance with :func:`register_task`."""

    name: str
    sharpen: float  # default of the method's option: what the teacher's logits are divided by

    def handles(self, model: nn.Module) -> bool:
        """Whether ``model`` (unwrapped) is of this task."""

    def check(self, model: nn.Module) -> None:
        """Raise UnsupportedModelError, naming the part, if the model has no per-location class logits."""

    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        """The classes in order of their logits."""

    def loss_points(self, model: nn.Module) -> list[LossPoint]:
        """Every place where the model computes a loss; the same order for student and teacher."""

    def training_flags(self, model: nn.Module) -> list[nn.Module]:
        """Modules that give fewer outputs in eval mode; the teacher keeps their own training flag on."""

    def classifier(self, model: nn.Module) -> tuple[str, nn.Module]:
        """Name and module of the last layer, whose input is the feature and whose output the class logits."""

    def fingerprint(self, dataset: Any, select: str) -> list[str]:
        """Lines that change whenever the answer of :meth:`find_forget_set` could: samples and, by label, annotations."""

    def find_forget_set(self, dataset: Any, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        """Indices of samples that show one of ``ids``: by label, or, given a teacher, by its prediction."""

    def sample_names(self, dataset: Any, indices: Sequence[int]) -> list[str]:
        """Stable names of samples, for the digest of the list of what was read."""

    def without_labels(self, dataset: Any) -> None:
        """Change the dataset so that it no longer needs annotations."""

    def published_meta(self, names: Sequence[str], ids: Sequence[int], dataset: Any) -> dict[str, Any]:
        """Meta data of the erased file: what loading it needs, without the names of ``ids``."""

    # Optional: unlabelled(dataset, indices: Sequence[int]) -> int: how many of these samples have no label, where data can be
    #   without; methods that read labels refuse them.
    # Optional: kept_samples(dataset) -> Sequence[str] | None: names of clean samples that are read beside the forget set.
    #
    # Optional: save_erased(model, meta, path) -> str, where a task's models are not single ``.pth`` files. It gets the
    # unwrapped model, the meta data above and a path without suffix, and returns what it wrote.
    #
    # Optional: class_layers(model) -> Sequence[ClassLayer]: every layer whose output is class logits, the prediction's and
    #   auxiliary ones; ``classifier`` alone where it is missing. In all of them the forgotten classes' rows are replaced before
    #   the model is published; a task that has its own way, or keeps the classes, gives none.
    # finish(runner) -> dict[str, Any]: what is done to the trained model before it is published and measured, and what was
    #   done, as JSON; :func:`delete_tasks.head.finish_rows` where it is missing.
    #
    # Optional, for `delete-tasks attention` and for the pictures of a record:
    # open_models(paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None: models by name from what the
    #   task's command writes; None where they are not this task's. ``options`` are the command's, see the plugin's own
    #   ``add_attention_arguments(parser)`` in its commands.py.
    # class_logits(model, inputs: Tensor (N, 3, H, W)) -> Tensor (N, C, *locations): ``model(inputs)`` where it is missing.
    # elementwise_attention: bool: the networks weigh the places of the last map each in its own way, see attention.raw_map.
    # looked_at(opened, inputs: Sequence[str], class_id: int, kept: Sequence[int], options) -> Iterator[Sample]
    #
    # Optional, for the record, see delete_tasks.record:
    # classes_are_people: bool: class names are people's names, which a record hides unless it is asked not to.
    # forgets: str: what a class stands for in a record, where that is not 'class' or 'person'.
    # figures: Sequence[delete_tasks.record.Figure]: all that a record may hold, without values; what --accept may name.
    # record_parts(runner, results) -> delete_tasks.record.RecordParts
    # measure_again(paths, how: Mapping[str, Any]) -> Mapping[str, float | str | None]: figures by name, or why they cannot be
    #   measured, for `record verify --rerun`. ``paths``: 'erased', and 'original' where it still is. ``how``: the measurement
    #   that record_parts gave, which a stranger may have written, and ``samples``, a delete_tasks.record.samples.SampleList.


_TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Make a task known; a later one of the same name replaces the earlier."""
    _TASKS[task.name] = task
    return task


def task_for(model: nn.Module) -> Task:
    """The task that handles ``model``.

    Raises:
        UnsupportedModelError: No registered task does; the message lists the registered ones.
    """
    for task in _TASKS.values():
        if task.handles(model):
            return task
    raise UnsupportedModelError(
        f"no task plugin handles a {type(model).__module__}.{type(model).__name__}; registered: "
        f"{', '.join(_TASKS) or 'none'}. Add the plugin to custom_imports, e.g. "
        "custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)"
    )


def plugin_modules() -> dict[str, str]:
    """Installed task plugins: command name -> import name (entry point group 'delete_tasks.tasks')."""
    return {point.name: point.value for point in entry_points(group="delete_tasks.tasks")}


def load_task(name: str) -> Task:
    """The task that an installed plugin registers under its command's name.

    Raises:
        RequestError: No such plugin is installed.
        MissingExtraError: It is, but not what it needs.
    """
    if name not in _TASKS:
        modules = plugin_modules()
        if name not in modules:
            raise RequestError(f"no task '{name}' is installed; there are: {', '.join(sorted(modules)) or 'none'}")
        module = importlib.import_module(modules[name])
        if name not in _TASKS:
            importlib.import_module(f"{module.__name__}.register")
    return _TASKS[name]


def import_plugin(name: str) -> Any:
    """Import a plugin by its import name."""
    return importlib.import_module(name)
