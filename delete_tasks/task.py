"""Interface of a task plugin. The core calls it and never tests which task it is."""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor, nn

from .errors import MissingExtraError, RequestError, UnsupportedModelError, first_line
from .evaluation.forget_data import ForgetData, Selection
from .fileio.checkpoint import save_file
from .model.head import ClassLayer, neutralise_rows
from .model.loss_point import LossInputs as LossInputs  # plugins import from here what they answer with
from .model.loss_point import LossPoint as LossPoint
from .plugins import plugin_modules

if TYPE_CHECKING:
    from .evaluation import Metric
    from .evaluation.opened import Opened

Open = Callable[[Mapping[str, str], Mapping[str, Any], Mapping[str, Any]], "Opened | None"]


@dataclass
class Outcome:
    """Outcome of a run, filled while it runs.

    Attributes:
        forget_check: Predictions on the forget set before and after, see
            :func:`delete_tasks.runner.forget_check.check_forgotten`.
        finished: What was done to the last layer after training, see :meth:`Task.finish`.
        withheld: A hook's reason why the model must not be published; None if it may be.
        published: Path of the published model; None if there is none.
        seconds: Time by part of the run; a command adds what it took itself.
    """

    forget_check: dict[str, Any] | None = None
    finished: dict[str, Any] | None = None
    withheld: str | None = None
    published: str | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"selecting": 0.0, "unlearning": 0.0})


class Run(Protocol):
    """Run that unlearns, as tasks and methods see it: a :class:`delete_tasks.runner.unlearn_runner.UnlearnRunner`."""

    task: Task
    recipe: Any  # delete_tasks.request.recipe.Recipe
    method: Any  # the method's hook
    method_config: Mapping[str, Any]
    wrapper_config: Mapping[str, Any]  # optim_wrapper, without the optimizer
    selection: Selection
    outcome: Outcome
    unwrapped_model: Any  # nn.Module, as the teacher, of a class that the task knows
    teacher: Any
    teacher_path: str
    teacher_sha256: str
    work_dir: str
    seed: int
    iter: int
    accumulation: int
    world_size: int
    logger: Logger
    hooks: list[Any]
    cfg: Any  # mmengine.config.Config
    work: Any  # delete_tasks.fileio.workdir.WorkDir
    optim_wrapper: Any
    train_dataloader: Any
    train_loop: Any


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
        open: ``(paths, data, options) -> Opened``: open what the task's command writes, for ``delete-tasks audit`` and
            ``attention`` and ``record verify --rerun``; None where the models are not this task's. ``paths`` are of the models by
            row: 'original', 'erased' and perhaps others. ``data`` are data strings by split: 'forget', and perhaps 'train' and
            'test', for an audit; what :attr:`delete_tasks.evaluation.opened.Opened.reopen` names for a record; none for
            attention, which looks at its own inputs. ``options`` are the command line's; of a record, which a stranger may have
            written, those that ``reopen`` names, ``recorded=True`` (nothing that they name is imported, run or fetched) and
            ``samples``, a :class:`delete_tasks.report.record.samples.SampleList`.
    """

    name: str
    metrics: Sequence[Metric] = ()
    forgets: str = "class"
    classes_are_people: bool = False
    recipes: Recipes = Recipes()
    open: Open | None = None

    # The model ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def handles(self, model: nn.Module) -> bool:
        """Tell whether ``model`` (unwrapped) is of this task.

        Raises:
            UnsupportedModelError: It is, but has no per-location class logits; the message names the part.
        """

    @abstractmethod
    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        """Name the classes in order of their logits."""

    def class_logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Compute logits ``(N, C, *locations)`` of inputs ``(N, 3, H, W)``."""
        return model(inputs)

    @abstractmethod
    def loss_points(self, model: nn.Module) -> list[LossPoint]:
        """List every place at which the model computes a loss; the same order for student and teacher."""

    def training_flags(self, model: nn.Module) -> list[nn.Module]:
        """Modules that give fewer outputs in eval mode; the teacher keeps their own training flag on."""
        return []

    @abstractmethod
    def classifier(self, model: nn.Module) -> tuple[str, nn.Module]:
        """Find name and module of the last layer, whose input is the feature and whose output the class logits."""

    def class_layers(self, model: nn.Module) -> Sequence[ClassLayer]:
        """List every layer whose output is class logits, the prediction's and auxiliary ones. In all of them the forgotten
        classes' weights are replaced before the model is published; a task that does so itself, or keeps classes, gives none."""
        return [ClassLayer(*self.classifier(model))]

    def finish(self, runner: Run) -> dict[str, Any]:
        """Change the trained model before it is published and measured; return what was done, as JSON.

        By default the forgotten classes' rows in its class layers are replaced, unless the recipe keeps them.
        """
        layers = [] if runner.recipe.keep_row else self.class_layers(runner.unwrapped_model)
        for layer in layers:
            neutralise_rows(layer.module, runner.selection.forget_ids, centre=layer.is_last)
        return {"rows_replaced": [layer.name for layer in layers]}

    def forget_data(self, dataset: Any) -> ForgetData:
        """Answer for a data set of the task; one that is no :class:`ForgetData` itself has to be wrapped."""
        return dataset

    def check_run(self, runner: Run) -> None:  # noqa: B027 - most tasks have nothing to refuse
        """Refuse a run that cannot be carried out, when its forget set is chosen and nothing is trained or published yet."""

    # The result ---------------------------------------------------------------------------------------------------

    def save_erased(self, model: nn.Module, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        """Write the erased model with what loading it needs, without the names of ``ids``; return the path of what was written.

        Args:
            model: Unwrapped.
            names: Class names, in the order of their logits.
            ids: The forgotten classes.
            dataset: The training data.
            path: Without a suffix.
        """
        return save_state_dict(model, {"classes": neutral_names(names, ids)}, path)


def save_state_dict(model: nn.Module, meta: Mapping[str, Any], path: str) -> str:
    """Write ``PATH.pth``, a state dict beside its meta data; return its path."""
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    save_file({"meta": dict(meta), "state_dict": state}, f"{path}.pth")
    return f"{path}.pth"


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
    """Find the task that handles ``model``.

    Raises:
        UnsupportedModelError: No registered task does, and the message lists the registered ones; or the task refuses it.
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
