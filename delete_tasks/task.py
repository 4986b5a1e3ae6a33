"""What a task plugin provides. The core asks these questions and never tests which task it is talking to."""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
    from .evaluation import Metric
    from .evaluation.opened import Opened

Open = Callable[[Mapping[str, str], Mapping[str, Any], Mapping[str, Any]], "Opened | None"]


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

    A run takes the abstract methods. The rest has defaults, which suit most models; a capability that a task lacks is None.

    Attributes:
        name: The plugin's command.
        metrics: What is measured of a model; tables, results.json, records, limits and comparisons all follow this list.
        forgets: What a class stands for in a record.
        classes_are_people: Class names are people's names, which a record hides unless it is asked not to.
        recipes: Defaults of its runs, by method.
        audit_advice: What a user does where a run's own data do not allow an audit.
        open: ``(paths, data, options) -> Opened``: open what the task's command writes, for ``delete-tasks audit`` and
            ``attention`` and ``record verify --rerun``; None where the models are not this task's. ``paths`` are of the models by
            row: 'original', 'erased' and perhaps others. ``data`` are data strings by split: 'forget', and perhaps 'train' and
            'test', for an audit; what :attr:`delete_tasks.evaluation.opened.Opened.reopen` names for a record; none for
            attention, which looks at its own inputs. ``options`` are the command line's; of a record, which a stranger may have
            written, those that ``reopen`` names, ``recorded=True`` (nothing that they name is imported, run or fetched) and
            ``samples``, a :class:`delete_tasks.record.samples.SampleList`.
    """

    name: str
    metrics: Sequence[Metric] = ()
    forgets: str = "class"
    classes_are_people: bool = False
    recipes: Recipes = Recipes()
    audit_advice: str = "delete-tasks audit can be given them"
    open: Open | None = None

    # The model ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def handles(self, model: nn.Module) -> bool:
        """Whether ``model`` (unwrapped) is of this task."""

    def check(self, model: nn.Module) -> None:  # noqa: B027 - a task may have nothing to check
        """Raise UnsupportedModelError, naming the part, if the model has no per-location class logits."""

    @abstractmethod
    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        """The classes in order of their logits."""

    def class_logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits ``(N, C, *locations)`` of inputs ``(N, 3, H, W)``."""
        return model(inputs)

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
