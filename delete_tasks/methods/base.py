"""Base of every unlearning method: replaces the model's loss and applies the stop rule."""

import copy
import math
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from mmengine.dist import all_reduce, get_dist_info, get_rank
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..errors import RequestError
from ..fileio.processes import raise_together
from ..fileio.seeds import STEP_STREAM, seed_all
from ..losses.masks import is_forgotten
from ..model.facts import Facts
from ..model.loss_point import LossInputs, LossPoint, is_loss, swap
from ..model.teacher import Caught, TeacherCache, check_same_weights, make_cache
from ..request import ranges
from ..request.classes import ForgetRequest
from ..task import Recipes, Run, Task
from .accumulation import AccumulatedStep

LossSums = tuple[Tensor, dict[str, Tensor], Tensor]  # weighted loss, values to log, weight: sums over locations


class UnlearnHook(Hook):
    """Base of the methods. A new method is one file, with the loss of one output, and one test.

    The loss methods of the model (``Task.loss_points``) are replaced on the instance before training and restored
    after it. The teacher, if the method needs one, reads the same batch just before the student, inside the
    (distributed) wrapper's forward, and its outputs are caught at the same places. If a batch has ``teacher_inputs``,
    the teacher reads these instead of ``inputs``, and the model's forward has to take and ignore them.

    Args:
        classes: Names or ids of the classes to forget.
        masking, locations, select: See :class:`delete_tasks.request.classes.ForgetRequest`.
        norm_eval: Freeze the running statistics of norm layers (their weights still train).
        stop: None runs all steps. A number r, or ``dict(ratio=r, window=n)``, stops as soon as, over the last n
            (default 5) optimizer steps, the student's probability of the masked classes is at most r times the
            teacher's, both weighted by the teacher's. Needs no labels.
    """

    needs_teacher = True
    watches = True  # location_loss calls _watch with the masses that the stop rule compares
    needs_labels = False
    uses_retain_set = True  # samples of a retain set, under an empty mask, have a loss
    needs_retain_set = False
    trains_head_alone = False
    activation = "softmax"  # of the class logits; 'sigmoid' if each class has its own
    public: str | None = None  # data read without labels beside the forget set
    views = "plain"  # views of a forget set of images; 'strong' if the loss needs no labels that fit each view
    rate = 2e-4  # AdamW's learning rate, unless the user or the task's recipe gives another
    recipe: ClassVar[Mapping[str, Any]] = {}  # further options of `unlearn`, for every task
    saved: ClassVar[Sequence[str]] = ()  # attributes that a resumed run needs, beside the stop rule's
    forget_use = retain_use = "trained on"  # what the steps do with the samples of the two sets
    retain_labels = False  # whether the loss reads the labels of the retain set

    def __init__(
        self,
        classes: Sequence[str | int] = (),
        masking: str = "all",
        locations: str = "all",
        select: str = "labels",
        norm_eval: bool = True,
        stop: float | Mapping[str, float] | None = None,
    ) -> None:
        self.request = ForgetRequest(classes, masking, locations, select)
        if self.needs_labels and select == "teacher":
            raise RequestError(f"{type(self).__name__} needs labels; use select='labels', or type='DELETE'")
        self.norm_eval = ranges.truth("unlearn.norm_eval", norm_eval)
        self.stop_ratio, window = ranges.stop_rule(stop)
        if self.stop_ratio is not None and not (self.needs_teacher and self.watches):
            why = "has another target than the original" if self.needs_teacher else "has no teacher to compare with"
            raise RequestError(f"{type(self).__name__} {why}: it takes steps, not stop")
        self.history: deque[tuple[float, float]] = deque(maxlen=window)
        self.pending = [0.0, 0.0]
        self.stopped, self.step = False, 0
        self.idle = 0  # steps that read a batch and trained nothing
        self.ids: list[int] = []
        self.norms: list[nn.Module] = []
        self._restore: list[Any] = []
        self._caught: Caught = {}
        self._features: Tensor | None = None  # the last layer's input, if _keep_features is its hook
        self._cache: TeacherCache | None = None
        self._accumulated: AccumulatedStep | None = None

    @classmethod
    def defaults(cls, recipes: Recipes, **facts: Any) -> dict[str, Any]:
        """Make the default options of ``unlearn``, with ``lr`` of its optimizer, from a task's recipes; ``facts`` of the run
        (``parameters``, the number of weights) are arguments of the recipes' functions."""
        return {"lr": cls.rate, **copy.deepcopy(dict(cls.recipe)), **recipes.options(cls.__name__, **facts)}

    # Interface of a method --------------------------------------------------------------------------------------

    @abstractmethod
    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        """Compute the loss of one output, summed over its locations.

        Args:
            student: Class logits ``(N, C, *locations)``, at the labels' locations unless :meth:`resizes` returns True.
            teacher: The original's logits of the same shape, or None if the method needs no teacher.
            inputs: Labels and other inputs of this call.
            weight: ``(N, *locations)`` or None for all ones.

        Returns:
            Weighted sum over locations; sums to log, by name; and the sum of weights.
        """

    def target(self, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Change the teacher's logits ``(N, C, *locations)``, at the model's resolution, to the target; may work in place."""
        return teacher

    def resizes(self, logits: Tensor, inputs: LossInputs) -> bool:
        """Return True if :meth:`location_loss` takes logits at the model's resolution and resizes them itself."""
        return False

    def extra_losses(self, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None) -> dict[str, Tensor]:
        """Compute further 0-d losses of a head, given its first output as in :meth:`location_loss`; names begin with ``loss``."""
        return {}

    def freeze(self, task: Task, model: nn.Module) -> None:
        """Freeze parameters that the method does not train; ``after_train`` runs the functions added to ``_restore``.

        Called with the unwrapped model before the (distributed) wrapper and the optimizer are made.
        """

    def prepare(self, runner: Run, model: nn.Module) -> None:
        """Prepare the run: called once before training, with the unwrapped model, before the loss is replaced."""

    def own_facts(self, facts: Facts) -> dict[str, Any]:
        """Note changes by the steps that are no training, once after the last one; return further facts of the training."""
        return {}

    def forgotten_weight(self, inputs: LossInputs, weight: Tensor | None) -> Tensor:
        """Select the locations whose label is a forgotten class: float32 ``(N, *locations)``, ``weight`` there, else 0. Raise
        :class:`RequestError` if there are no labels."""
        if inputs.labels is None:
            raise RequestError(f"{type(self).__name__} needs labels, and the data have none; use type='DELETE'")
        forgotten = is_forgotten(inputs.labels, self.ids)
        if inputs.retain is not None:
            forgotten = forgotten & ~inputs.retain
        return forgotten.float() if weight is None else forgotten * weight

    # Stages of the run -------------------------------------------------------------------------------------------

    def before_train(self, runner: Run) -> None:
        model = runner.unwrapped_model
        self.ids = list(runner.selection.forget_ids)
        if get_rank() == 0:
            runner.outcome.facts.begin(runner.task.published(model))
        if self.norm_eval:
            self.norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self.prepare(runner, model)
        points = runner.task.loss_points(model)
        if self.needs_teacher:
            if runner.iter == 0:
                check_same_weights(model, runner.teacher, runner.teacher_path)
            for _, mirror in zip(points, runner.task.loss_points(runner.teacher), strict=True):
                self._restore.append(swap(mirror, partial(self._catch, mirror)))
            batches = runner.train_loop.max_iters * runner.world_size
            self._cache = make_cache(
                runner.recipe.cache_teacher, runner.train_dataloader, batches, runner.teacher_sha256, runner.work_dir
            )
            # A hook's argument is no submodule: the teacher is in no state dict, optimizer or wrapper of the student.
            handle = model.register_forward_pre_hook(partial(self._run_teacher, runner.teacher), with_kwargs=True)
            self._restore.append(handle.remove)
        for point in points:
            self._restore.append(swap(point, partial(self._loss, point)))
        if runner.accumulation > 1:
            self._accumulated = AccumulatedStep(runner.accumulation, runner.optim_wrapper.param_groups)
        if self.stopped:
            runner.train_loop.stop_training = True

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(runner.seed, STEP_STREAM, batch_idx, get_rank())
        self.step = batch_idx // runner.accumulation
        if self._accumulated is not None:
            self._accumulated.begin(batch_idx)
        for norm in self.norms:
            norm.training = False

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        loss = float(torch.as_tensor((outputs or {}).get("loss", 0.0)).detach())
        error = None
        if not math.isfinite(loss):
            error = RequestError(
                f"the loss is {loss} at step {self.step + 1}; nothing is published. Use a smaller learning rate than "
                f"{runner.recipe.optimizer.get('lr')}"
            )
        raise_together(error)
        if self.stop_ratio is None or (batch_idx + 1) % runner.accumulation:
            return
        sums = torch.tensor(self.pending, dtype=torch.float64)
        all_reduce(sums)
        self.pending = [0.0, 0.0]
        self.history.append((sums[0].item(), sums[1].item()))
        student, teacher = (sum(column) for column in zip(*self.history, strict=True))
        ratio = student / teacher if teacher > 0 else 0.0
        if len(self.history) == self.history.maxlen and ratio <= self.stop_ratio:
            left = f"the forgotten classes have {ratio:.2%} of the original's probability (limit {self.stop_ratio:.2%})"
            self.stop_run(runner, f"the stop rule was met: {left}")

    def stop_run(self, runner: Run, reason: str) -> None:
        """End the run after this step."""
        self.stopped = runner.train_loop.stop_training = True
        runner.outcome.facts.ended = reason
        runner.logger.info(f"Stopped after {self.step + 1} steps: {reason}.")

    def after_train(self, runner: Run) -> None:
        for undo in reversed(self._restore):
            undo()
        self._restore.clear()
        self._caught.clear()
        if self._cache is not None:
            self._cache.close()
        self._accumulated = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs to take the same steps."""
        state = {"history": [list(pair) for pair in self.history], "stopped": self.stopped, "idle": self.idle}
        return state | {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history.extend(tuple(pair) for pair in state["history"])
        self.stopped, self.idle = state["stopped"], state.get("idle", 0)
        for name in self.saved:
            setattr(self, name, state[name])

    # The loss ----------------------------------------------------------------------------------------------------

    def _run_teacher(self, teacher: nn.Module, module: nn.Module, args: Any, kwargs: Any) -> None:
        if is_loss(args, kwargs):
            self._caught.clear()
            if kwargs.get("teacher_inputs") is not None:
                kwargs = {**kwargs, "inputs": kwargs["teacher_inputs"]}
            with torch.no_grad():
                if self._cache is None:
                    teacher(*args, **kwargs)
                else:
                    self._cache.run(teacher, self._caught, args, kwargs)

    def _catch(self, point: LossPoint, outputs: Any, *_: Any, **__: Any) -> dict[str, Tensor]:
        self._caught.setdefault(point.name, deque()).append(outputs)
        return {}

    def _keep_features(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._features = args[0]

    def _loss(self, point: LossPoint, outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        inputs = point.read(outputs, *args, **kwargs)
        teachers: Sequence[Tensor | None] = [None] * len(inputs.logits)
        if self.needs_teacher:
            teachers = point.read(self._caught[point.name].popleft(), *args, **kwargs).logits
            if len(teachers) != len(inputs.logits):
                raise RuntimeError(
                    f"{point.name} gives {len(inputs.logits)} class outputs in training mode and {len(teachers)} in that of the "
                    "teacher; the task's training_flags must name the module that drops outputs in eval mode"
                )
        losses: dict[str, Tensor] = {}
        for number, (logits, teacher, share) in enumerate(zip(inputs.logits, teachers, inputs.weights, strict=True)):
            teacher = None if teacher is None else self.target(teacher, inputs)
            if not self.resizes(logits, inputs):
                logits, teacher = inputs.at_labels(logits), None if teacher is None else inputs.at_labels(teacher)
            weight = self._weight(inputs, teacher)
            computed = self.extra_losses(teacher, inputs, weight) if number == 0 else {}
            suffix = f"_{number}" if len(inputs.logits) > 1 else ""
            total, logs, count = self.location_loss(logits, teacher, inputs, weight)
            # DistributedDataParallel averages over ranks; the mean is over all locations of the global batch.
            count = count.detach().clone().double()
            all_reduce(count)
            mean = torch.where(count > 0, count / get_dist_info()[1], 1.0)
            computed[f"loss_unlearn{suffix}"] = (total / mean).to(total.dtype) * share
            losses.update(computed if self._accumulated is None else self._accumulated.weighted(computed, float(count)))
            losses.update({f"{name}{suffix}": (value / mean).float() for name, value in logs.items()})
        for free in inputs.class_free:
            losses["loss_class_free"] = losses.get("loss_class_free", 0.0) + free.float().sum() * 0.0
        return losses

    def _weight(self, inputs: LossInputs, teacher: Any) -> Tensor | None:
        """Weigh the locations that take part in the loss ``(N, *locations)`` by 1, all others by 0; None if all take part."""
        valid = inputs.valid
        if self.request.locations == "forgotten":
            labels = None if self.request.select == "teacher" else inputs.labels
            if labels is None and teacher is None:
                raise RequestError("locations='forgotten' needs labels or a teacher, and here is neither")
            forgotten = is_forgotten(inputs.classes(teacher) if labels is None else labels, self.ids)
            if inputs.retain is not None:
                forgotten = forgotten | inputs.retain  # every location of a retain set takes part
            valid = forgotten if valid is None else valid & forgotten
        return None if valid is None else valid.float()

    def _watch(self, student_mass: Tensor, teacher_mass: Tensor) -> None:
        """Add one output's masses (sums of t*s and t*t over locations) to those of the step, if there is a stop rule."""
        if self.stop_ratio is not None:
            self.pending[0] += float(student_mass)
            self.pending[1] += float(teacher_mass)
