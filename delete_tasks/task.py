"""What a task plugin provides. The core asks these questions and never tests which task it is talking to."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from .checkpoint import save_file
from .errors import RequestError, UnsupportedModelError
from .head import ClassLayer, neutralise_rows
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


class ForgetData:
    """Base of a task's training data: what a run asks of them to choose its forget set.

    A data set of another library is wrapped by the task, see :meth:`Task.forget_data`.
    """

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        """Find the samples that show one of the classes ``ids``: by label or, given a teacher, by its prediction.

        Args:
            ids: The classes to forget.
            teacher: The original, or None.
            config: The run's.

        Returns:
            Indices of the samples.
        """
        raise NotImplementedError

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        """Give stable names of samples, for the digest of the list of what was read: by default, their numbers."""
        return [f"{index:06d}" for index in indices]

    def fingerprint(self, select: str) -> list[str]:
        """Give lines that change whenever the answer of :meth:`find_forget_set` could: samples and, by label, annotations."""
        return self.sample_names(range(len(self)))  # type: ignore[arg-type]

    def unlabelled(self, indices: Sequence[int]) -> int:
        """Count the samples without a label, which methods that read labels refuse."""
        return 0

    def without_labels(self) -> None:
        """Change the data so that no annotation is read any more."""
        raise RequestError("the training data cannot be read without labels; use select='labels'")

    def retain_samples(self) -> Sequence[str] | None:
        """Name the samples of a retain set that is read beside the forget set; None if there is none."""
        return None

    def public_samples(self) -> Sequence[str] | None:
        """Name the samples of public data that are read beside the forget set; None if there are none."""
        return None

    def add_public(self, data: str) -> None:
        """Let a sample of public data, which ``data`` names, join each sample, without a label."""
        raise RequestError("the training data read no public data beside them; leave public out")


@dataclass(frozen=True)
class Selection:
    """Forget set of a run, chosen from its training data.

    Attributes:
        dataset: The training data.
        indices: Samples of them that show a forgotten class; no others are read.
        sample_names: Names of those.
        class_names: Class names, in the order of their logits.
        forget_ids: The classes to forget, ascending.
        forget_set: Numbers of samples ``read`` and ``available``, and ``sha256`` of the names.
        retain_set, public_data: ``read`` and ``sha256`` of samples that are read beside the forget set; None without any.
        dataset_config: Config that the data set was built from; None if it was given as it is.
    """

    dataset: Any = None
    indices: Sequence[int] = ()
    sample_names: Sequence[str] = ()
    class_names: Sequence[str] = ()
    forget_ids: Sequence[int] = ()
    forget_set: Mapping[str, Any] = field(default_factory=dict)
    retain_set: Mapping[str, Any] | None = None
    public_data: Mapping[str, Any] | None = None
    dataset_config: Any = None


class Run(Protocol):
    """Run that unlearns, as tasks and methods see it: a :class:`delete_tasks.runner.UnlearnRunner`."""

    task: Task
    recipe: Any  # delete_tasks.recipe.Recipe
    method: Any  # the method's hook
    selection: Selection
    unwrapped_model: nn.Module
    teacher: nn.Module
    teacher_path: str
    teacher_sha256: str
    work_dir: str
    seed: int
    iter: int
    accumulation: int
    world_size: int
    logger: Logger
    hooks: list[Any]
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
    """

    name: str
    metrics: Sequence[Metric] = ()
    forgets: str = "class"
    classes_are_people: bool = False
    recipes: Recipes = Recipes()
    elementwise_attention: bool = False

    # The model ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def handles(self, model: nn.Module) -> bool:
        """Tell whether ``model`` (unwrapped) is of this task.

        Raises:
            UnsupportedModelError: It is, but has no per-location class logits; the message names the part.
        """

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
    """The task that handles ``model``.

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
