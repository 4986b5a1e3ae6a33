"""Interface of task plugins. The core calls it and never tests which task it is."""

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from .errors import MissingExtraError, RequestError, UnsupportedModelError, first_line
from .evaluation import Metric
from .evaluation.forget_data import ForgetData, Selection
from .evaluation.opened import Opened
from .evaluation.reader import OpenedModel
from .fileio.checkpoint import save_file
from .fileio.compute import flush_subnormals
from .model.facts import REPLACED, Facts
from .model.head import ClassLayer, neutralise_rows
from .model.loss_point import LossInputs as LossInputs  # plugins import the types of their results from here
from .model.loss_point import LossPoint as LossPoint
from .plugins import plugin_modules

Open = Callable[[Mapping[str, str], Mapping[str, Any], Mapping[str, Any]], Opened | None]


@dataclass
class Outcome:
    """Outcome of a run, filled while it runs.

    Attributes:
        forget_check: Predictions on the forget set before and after, see
            :func:`delete_tasks.runner.forget_check.check_forgotten`.
        finished: Changes of the last layer after training, see :meth:`Task.finish`.
        withheld: Reason of a hook not to publish the model; None if it may be published.
        published: Path of the published model; None if there is none.
        seconds: Time of the run by part; a command adds its own parts.
        facts: What changed which tensors, and which data were read, noted while it happens.
        done: The same at the end, see :func:`delete_tasks.runner.done.statement`; None on processes but the first.
    """

    forget_check: dict[str, Any] | None = None
    finished: dict[str, Any] | None = None
    withheld: str | None = None
    published: str | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"selecting": 0.0, "unlearning": 0.0})
    facts: Facts = field(default_factory=Facts)
    done: dict[str, Any] | None = None


class Run(Protocol):
    """Interface of :class:`delete_tasks.runner.unlearn_runner.UnlearnRunner` for tasks and methods."""

    task: "Task"
    recipe: Any  # delete_tasks.request.recipe.Recipe
    method: Any  # the method's hook
    method_config: Mapping[str, Any]
    wrapper_config: Mapping[str, Any]  # optim_wrapper, without the optimizer
    selection: Selection
    outcome: Outcome
    unwrapped_model: Any  # nn.Module of a class that the task handles, as the teacher
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
    account: Callable[[], dict[str, Any]]  # see delete_tasks.runner.done.account_of


@dataclass(frozen=True)
class Recipes:
    """Default options of a task's runs by method, declared in a plugin's ``recipes.py``.

    Attributes:
        methods: By method: options of ``unlearn``; a function that returns them for facts of the run, given by keyword; or the
            reason, a text, why the method does not support the task's models.
        teacher_temperature: Divisor of the teacher's logits in DELETE.
    """

    methods: Mapping[str, Mapping[str, Any] | Callable[..., Mapping[str, Any]] | str] = field(default_factory=dict)
    teacher_temperature: float = 1.0

    def options(self, method: str, **facts: Any) -> dict[str, Any]:
        """Return the options of a method; an empty dict if there are none."""
        recipe = self.methods.get(method, {})
        if isinstance(recipe, str):
            return {}
        return copy.deepcopy(dict(recipe(**facts) if callable(recipe) else recipe))


class Task(ABC):
    """Base class of a task: one use of a model, such as per pixel or per image. Register an instance with :func:`register_task`.

    The abstract methods are enough for a run. The other methods have defaults for most models; optional capabilities are None.

    Attributes:
        name: Command of the plugin.
        metrics: Metrics of a model, for tables, results.json, records, limits and comparisons.
        forgets: Noun for a class in records.
        samples: Noun for several samples.
        classes_are_people: Class names are names of people, which a record hides by default.
        names_are_forgotten: Files that name the forgotten classes are residue.
        recipes: Default options of its runs, by method.
        exports: Name of an exported model's output; only 'logits' have a place for each class.
        open: ``(paths, data, options) -> Opened``: open models and samples for ``delete-tasks audit``, ``attention`` and ``record
            verify --rerun``; None if the models are of another task. ``paths`` are those of the models by row: 'original',
            'erased' and optional others. ``data`` are data strings by split: for an audit 'forget' and optionally 'train' and
            'test'; for a record those of :attr:`delete_tasks.evaluation.opened.Opened.reopen`; for attention, which has its own
            inputs, none. ``options`` are those of the command line; for a record, which is not trusted, those of ``reopen``,
            ``recorded=True`` (import, run and fetch nothing that they name), ``samples``, a
            :class:`delete_tasks.report.record.files.SampleList`, and ``forgotten``, a function that finds the forgotten
            classes' indices in a list of all names.
        hub: ``(path, record, hide)`` of a model -> ``library_name`` and ``pipeline_tag`` of its card on the Hugging Face Hub, and
            its config.json and other JSON files by name, without names of people if ``hide``; None for a task without cards.
    """

    name: str
    metrics: Sequence[Metric] = ()
    forgets: str = "class"
    samples: str = "samples"
    classes_are_people: bool = False
    names_are_forgotten: bool = True
    recipes: Recipes = Recipes()
    exports: str = "logits"
    open: Open | None = None
    hub: Callable[[Path, Any, bool], tuple[str, str, dict[str, Any]]] | None = None

    # The model ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def handles(self, model: nn.Module) -> bool:
        """Return True if ``model`` (unwrapped) is of this task; raise :class:`UnsupportedModelError`, which names the part, if it
        is, but has no class logits per location."""

    @abstractmethod
    def class_names(self, model: nn.Module, dataset: Any) -> Sequence[str]:
        """Return the class names in order of their logits."""

    def class_logits(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Compute logits ``(N, C, *locations)`` of inputs ``(N, 3, H, W)``."""
        return model(inputs)

    @abstractmethod
    def loss_points(self, model: nn.Module) -> list[LossPoint]:
        """List all places at which the model computes a loss, in the same order for student and teacher."""

    def decisions(self, model: nn.Module, logits: Tensor) -> Tensor:
        """Convert an output of a loss point to logits ``(N, C, *locations)`` whose largest is the prediction of a location; more
        classes, as none at all, may follow."""
        return logits

    def training_flags(self, model: nn.Module) -> list[nn.Module]:
        """List modules with fewer outputs in eval mode, whose training flag stays on in the teacher."""
        return []

    @abstractmethod
    def classifier(self, model: nn.Module) -> tuple[str, nn.Module]:
        """Find name and module of the last layer, whose input is the feature and whose output the class logits."""

    def class_layers(self, model: nn.Module) -> Sequence[ClassLayer]:
        """List all layers whose output is class logits, main and auxiliary. Before the model is published, the forgotten classes'
        weights are replaced in them; a task that replaces them itself, or keeps the classes, returns none."""
        return [ClassLayer(*self.classifier(model))]

    def finish(self, runner: Run) -> dict[str, Any]:
        """Change the trained model before it is published and measured, and return the changes as JSON. By default the forgotten
        classes' weights in its class layers are replaced, unless the recipe keeps them."""
        layers = [] if runner.recipe.keep_row else self.class_layers(runner.unwrapped_model)
        ids = runner.selection.forget_ids
        for layer in layers:
            sigmoid = runner.method.activation == "sigmoid"
            neutralise_rows(layer.module, ids, centre=layer.is_last, sigmoid=sigmoid)
            centred = layer.is_last and not sigmoid
            runner.outcome.facts.change(REPLACED, [layer.module], classes=len(ids), others_centred=centred)
        return {"rows_replaced": [layer.name for layer in layers]}

    def forget_data(self, dataset: Any) -> ForgetData:
        """Return a dataset of the task as :class:`ForgetData`; a dataset of another library has to be wrapped."""
        return dataset

    # The result ---------------------------------------------------------------------------------------------------

    def published(self, model: nn.Module, ids: Sequence[int] = ()) -> nn.Module:
        """Return the module whose tensors :meth:`save_erased` writes; without ``ids``, before it removes class weights."""
        return model

    def residue(self, original: Path, names: Sequence[str]) -> list[tuple[str, Path]]:
        """List the files of the ``original`` model that hold the forgotten classes ``names``: content and path of each."""
        return [("the original model, before erasure", original)]

    def save_erased(self, model: nn.Module, names: Sequence[str], ids: Sequence[int], dataset: Any, path: str) -> str:
        """Write the erased model (unwrapped) with all that loading needs, except the names of the forgotten classes ``ids``.
        ``names`` are the class names in order of their logits, ``path`` has no suffix. Return the path of the file or folder."""
        return save_state_dict(model, {"classes": neutral_names(names, ids)}, path)

    def exported(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Compute the output :attr:`exports` of an exported model, from inputs ``(N, 3, H, W)``."""
        return self.class_logits(model, inputs)

    def exported_file(self, model: nn.Module) -> Any:
        """Return an exported model, an ``onnx.ModelProto``, that need not be traced; None if there is none."""
        return None

    def export_inputs(self, model: OpenedModel, samples: Any) -> Iterator[Tensor]:
        """Iterate over batches of inputs of an exported model; ``samples`` are those of a split, None: random numbers."""
        return (inputs for inputs, _ in model.prepare(samples))


def save_state_dict(model: nn.Module, meta: Mapping[str, Any], path: str) -> str:
    """Write ``PATH.pth``, a state dict with meta data, and return its path."""
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    save_file({"meta": dict(meta), "state_dict": state}, f"{path}.pth")
    return f"{path}.pth"


def neutral_names(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """Replace the class names of ``ids`` by ``class_<id>``, unlike any other name."""
    retained = {name for i, name in enumerate(names) if i not in ids}
    neutral = list(names)
    for i in ids:
        neutral[i] = f"class_{i}"
        while neutral[i] in retained:
            neutral[i] += "_"
    return neutral


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Register a task; it replaces an earlier task of the same name."""
    TASKS[task.name] = task
    return task


def task_for(model: nn.Module) -> Task:
    """Find the task that handles ``model``; raise :class:`UnsupportedModelError` if no registered task does, or it refuses it."""
    for task in TASKS.values():
        if task.handles(model):
            return task
    raise UnsupportedModelError(
        f"no task plugin handles a {type(model).__module__}.{type(model).__name__}; registered: "
        f"{', '.join(TASKS) or 'none'}. Add its plugin (installed: {', '.join(sorted(plugin_modules().values()))}) to "
        "custom_imports = dict(imports=[...], allow_failed_imports=False)"
    )


def load_task(name: str) -> Task:
    """Load the task that an installed plugin registers under its command's name; raise :class:`RequestError` without such a
    plugin, :class:`MissingExtraError` if a package that it requires is not installed."""
    if name not in TASKS:
        modules = plugin_modules()
        if name not in modules:
            raise RequestError(f"no task '{name}' is installed; there are: {', '.join(sorted(modules)) or 'none'}")
        module = importlib.import_module(modules[name])
        if name not in TASKS:
            importlib.import_module(f"{module.__name__}.register")
    return TASKS[name]


def open_models(
    paths: Mapping[str, str],
    data: Mapping[str, str],
    options: Mapping[str, Any],
    use: str,
    fits: Callable[[Opened], bool] = bool,
) -> tuple[Task, Opened]:
    """Open models by the first installed task that takes them, or by ``options['task']``; arguments as of :attr:`Task.open`.
    ``use`` is what the models are opened for, and ``fits`` tells whether they offer it. Raise :class:`RequestError` if no task
    opens such models; the message lists the tasks."""
    flush_subnormals()
    name, missing = options["task"], []
    names = sorted(plugin_modules()) if name is None else [name]
    for candidate in names:
        try:
            task = load_task(candidate)
        except MissingExtraError as error:
            if name is not None:
                raise
            missing.append(f"{candidate} ({first_line(error)})")
            continue
        opened = None if task.open is None else task.open(paths, data, options)
        if opened is not None and fits(opened):
            return task, opened
        if name is not None and (task.open is None or opened is not None):
            raise RequestError(f"{name} does not offer {use}")
    lacking = f" Not installed: {'; '.join(missing)}." if missing else ""
    raise RequestError(
        f"none of the tasks {', '.join(names)} takes '{paths['original']}' as a model: expected a model folder (model.json and "
        f"weights.safetensors), or a checkpoint together with the --config of its run.{lacking}"
    )
