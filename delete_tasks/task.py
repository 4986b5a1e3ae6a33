"""What a task plugin provides. The core asks these questions and never tests which task it is talking to."""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from .checkpoint import save_file
from .errors import MissingExtraError, RequestError, UnsupportedModelError, first_line
from .head import ClassLayer, finish_rows
from .loss_point import LossInputs as LossInputs  # plugins import from here what they answer with
from .loss_point import LossPoint as LossPoint
from .plugins import plugin_modules

if TYPE_CHECKING:
    from pathlib import Path

    from .audit.samples import AuditSource
    from .benchmark.grid import Grid
    from .benchmark.source import GridSource
    from .evaluation import Evaluation, Metric
    from .record import RecordParts


@dataclass(frozen=True)
class OpenModels:
    """Models of one architecture, opened from what commands write, to be looked at or measured.

    Attributes:
        models: 'original', 'erased' and perhaps 'retrained', in that order, in eval mode on one device.
        class_names: In order of the logits, as the original names them.
        notes: What a reader of pictures and figures has to know of them.
        context: What else the task needs for :meth:`Task.iter_samples`.
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
        region: Booleans ``(H, W)``, where the class shows; None: the whole picture.
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


@dataclass(frozen=True)
class Recipes:
    """Defaults of a task's runs, by method: the table in a plugin's ``recipes.py``.

    Attributes:
        methods: Options of ``unlearn``, or a function that makes them of facts of the run, given by keyword; a text is the
            reason why the method does not take the task's models.
        teacher_temperature: DELETE's option, the divisor of the teacher's logits.
    """

    methods: Mapping[str, Mapping[str, Any] | Callable[..., Mapping[str, Any]] | str] = field(default_factory=dict)
    teacher_temperature: float = 1.0

    def options(self, method: str, **facts: Any) -> dict[str, Any]:
        """Make the options of a method; none if the table has no options for it."""
        recipe = self.methods.get(method, {})
        if isinstance(recipe, str):
            return {}
        return copy.deepcopy(dict(recipe(**facts) if callable(recipe) else recipe))


class Task(ABC):
    """One way of using a model: per pixel, per image, per time step. Register an instance with :func:`register_task`.

    A run takes the abstract methods. The rest has defaults: most models need none of it, and a part that a task does not offer
    (attention, measuring a record again) says so to whoever asks for it.

    Attributes:
        name: The plugin's command.
        metrics: What is measured of a model; tables, results.json, records, limits and comparisons all follow this list.
        forgets: What a class stands for in a record.
        classes_are_people: Class names are people's names, which a record hides unless it is asked not to.
        recipes: Defaults of its runs, by method.
        elementwise_attention: The networks weigh the places of the last map each in its own way, see
            :func:`delete_tasks.attention.gradcam.raw_map`.
        audit_advice: What a user does where a run's own data do not allow an audit.
    """

    name: str
    metrics: Sequence[Metric] = ()
    forgets: str = "class"
    classes_are_people: bool = False
    recipes: Recipes = Recipes()
    elementwise_attention: bool = False
    audit_advice: str = "delete-tasks audit can be given them"

    # The model ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def handles(self, model: nn.Module) -> bool:
        """Whether ``model`` (unwrapped) is of this task."""

    def check(self, model: nn.Module) -> None:  # noqa: B027 - a task may have nothing to check
        """Raise UnsupportedModelError, naming the part, if the model has no per-location class logits."""

    @abstractmethod
    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        """The classes in order of their logits."""

    @abstractmethod
    def loss_points(self, model: nn.Module) -> list[LossPoint]:
        """Every place where the model computes a loss; the same order for student and teacher."""

    def training_flags(self, model: nn.Module) -> list[nn.Module]:
        """Modules that give fewer outputs in eval mode; the teacher keeps their own training flag on."""
        return []

    @abstractmethod
    def classifier(self, model: nn.Module) -> tuple[str, nn.Module]:
        """Name and module of the last layer, whose input is the feature and whose output the class logits."""

    def class_layers(self, model: nn.Module) -> Sequence[ClassLayer]:
        """Every layer whose output is class logits, the prediction's and auxiliary ones. In all of them the forgotten classes'
        rows are replaced before the model is published; a task that has its own way, or keeps the classes, gives none."""
        return [ClassLayer(*self.classifier(model))]

    def finish(self, runner: Any) -> dict[str, Any]:
        """What is done to the trained model before it is published and measured, and what was done, as JSON."""
        return finish_rows(runner)

    # The data -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def find_forget_set(self, dataset: Any, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        """Indices of samples that show one of ``ids``: by label, or, given a teacher, by its prediction."""

    @abstractmethod
    def sample_names(self, dataset: Any, indices: Sequence[int]) -> list[str]:
        """Stable names of samples, for the digest of the list of what was read."""

    def fingerprint(self, dataset: Any, select: str) -> list[str]:
        """Lines that change whenever the answer of :meth:`find_forget_set` could: samples and, by label, annotations."""
        return self.sample_names(dataset, range(len(dataset)))

    def unlabelled(self, dataset: Any, indices: Sequence[int]) -> int:
        """How many of these samples have no label; methods that read labels refuse them."""
        return 0

    def retain_samples(self, dataset: Any) -> Sequence[str] | None:
        """Names of the samples of a retain set that is read beside the forget set; None where there is none."""
        return None

    def add_public(self, dataset: Any, data: str) -> None:
        """Let a sample of public data, which ``data`` names, join each sample of the dataset, without a label."""
        raise RequestError(f"{self.name} reads no public data; leave public out")

    def public_samples(self, dataset: Any) -> Sequence[str] | None:
        """Names of the samples of public data that are read beside the forget set; None where there are none."""
        return None

    def without_labels(self, dataset: Any) -> None:
        """Change the dataset so that it no longer needs annotations."""
        raise RequestError(f"{self.name} cannot read data without labels; use select='labels'")

    def begin(self, runner: Any) -> float | None:
        """What is done to the model before the first step, once it has been compared with its teacher: a part of the task's
        method that takes no steps. A run that is resumed has it in its weights.

        Returns:
            What share of the teacher's probability of the forgotten classes is left, as the stop rule measures it: a run that
            has nothing left to do takes no step. None where nothing was done.
        """
        return None

    def begins_with(self, model: nn.Module) -> Mapping[str, Any]:
        """What of the model's own options :meth:`begin` goes by, by name: a run that is resumed must have been begun with the
        same."""
        return {}

    # The result ---------------------------------------------------------------------------------------------------

    def published_meta(self, names: Sequence[str], ids: Sequence[int], dataset: Any) -> dict[str, Any]:
        """Meta data of the erased file: what loading it needs, without the names of ``ids``."""
        return {"classes": neutral_names(names, ids)}

    def save_erased(self, model: nn.Module, meta: dict[str, Any], path: str) -> str:
        """Write the erased model; what was written.

        Args:
            model: Unwrapped.
            meta: See :meth:`published_meta`.
            path: Without a suffix.
        """
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        save_file({"meta": meta, "state_dict": state}, f"{path}.pth")
        return f"{path}.pth"

    @property
    def figures(self) -> Sequence[Metric]:
        """The metrics that a limit can be held against (``--accept NAME=MOST``): the lower, the better."""
        return [metric for metric in self.metrics if metric.lower_is_better]

    def record_parts(self, runner: Any, results: Mapping[str, Any]) -> RecordParts:
        """What only the task knows of a run for its erasure record."""
        from .record.parts import RecordParts

        return RecordParts(measurement=f"{self.name} does not offer to measure a record again")

    def measure_again(self, paths: Mapping[str, str], how: Mapping[str, Any]) -> Evaluation:
        """The models of a record measured on its data, for ``record verify --rerun``: rows 'original', where it still is, and
        'erased'. Where the original is gone, metrics that compare with it find none.

        Args:
            paths: 'erased', and 'original' where it still is.
            how: The measurement that :meth:`record_parts` gave, which a stranger may have written, and ``samples``, a
                :class:`delete_tasks.record.samples.SampleList`.
        """
        raise RequestError(f"{self.name} does not offer to measure a record again")

    # Attention ----------------------------------------------------------------------------------------------------

    def open_models(self, paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None:
        """Models by name from what the task's command writes, for ``delete-tasks attention``; None where they are not this
        task's, or the task offers no attention.

        Args:
            paths: 'original', 'erased' and perhaps 'retrained'.
            options: The command's, see the plugin's own ``ATTENTION_OPTIONS`` in its commands.py.
        """
        return None

    def class_logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits ``(N, C, *locations)`` of inputs ``(N, 3, H, W)``."""
        return model(inputs)

    def iter_samples(
        self, opened: OpenModels, inputs: Sequence[str], class_id: int, kept: Sequence[int], options: Mapping[str, Any]
    ) -> Iterator[Sample]:
        """Samples of the forgotten class and of others, in a fixed order, for attention."""
        raise RequestError(f"{self.name} does not offer attention")

    # Audit --------------------------------------------------------------------------------------------------------

    def open_audit(
        self, paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any]
    ) -> AuditSource | None:
        """Models and samples for ``delete-tasks audit``; None where the models are not this task's, or it offers no audit.

        Args:
            paths: 'original', 'erased' and perhaps 'retrained' or 'retrained_1' and so on.
            data: 'forget', and 'train' and 'test' where they are given.
            options: Of the command line.
        """
        return None

    # Benchmark ----------------------------------------------------------------------------------------------------

    def open_benchmark(self, grid: Grid, folder: Path) -> GridSource:
        """Networks and data of a grid for ``delete-tasks benchmark``.

        Args:
            grid: As its file says.
            folder: The work dir.

        Raises:
            RequestError: It asks for what is not there, or the task offers no benchmark.
        """
        raise RequestError(f"{self.name} offers no benchmark")


def neutral_names(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """Class names with those of ``ids`` replaced by ``class_<id>``, all different."""
    kept = {name for i, name in enumerate(names) if i not in ids}
    neutral = list(names)
    for i in ids:
        neutral[i] = f"class_{i}"
        while neutral[i] in kept:
            neutral[i] += "_"
    return neutral


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Make a task known; a later one of the same name replaces the earlier."""
    TASKS[task.name] = task
    return task


def task_for(model: nn.Module) -> Task:
    """The task that handles ``model``.

    Raises:
        UnsupportedModelError: No registered task does; the message lists the registered ones.
    """
    for task in TASKS.values():
        if task.handles(model):
            return task
    raise UnsupportedModelError(
        f"no task plugin handles a {type(model).__module__}.{type(model).__name__}; registered: "
        f"{', '.join(TASKS) or 'none'}. Add its plugin (installed: {', '.join(sorted(plugin_modules().values()))}) to "
        "custom_imports = dict(imports=[...], allow_failed_imports=False)"
    )


T = TypeVar("T")


def load_task(name: str) -> Task:
    """Load the task that an installed plugin registers under its command's name.

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


def ask_tasks(
    question: Callable[[Task], T | None],
    model: str,
    name: str | None = None,
    lacks: Callable[[Task], str | None] = lambda task: None,
) -> tuple[Task, T]:
    """Find the first installed task that answers a question about a model.

    Args:
        question: None is no answer.
        model: What the user named, for the message.
        name: Of the only task to ask; None asks all.
        lacks: What such a task does not offer, in words; None if it offers it.

    Returns:
        The task and its answer.

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
