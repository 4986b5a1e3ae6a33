"""Runner of an unlearning run."""

import copy
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, master_only
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.registry import HOOKS, RUNNERS
from torch import nn

from ..display.terminal import begin_stage
from ..errors import CheckpointMismatchError, RequestError
from ..evaluation.forget_data import Selection
from ..fileio.checkpoint import file_sha256, load_weights, refuse_non_finite
from ..fileio.compute import flush_subnormals
from ..fileio.digests import WEIGHTS
from ..fileio.inputs import marks_of
from ..fileio.processes import SharedErrors, together, told_once
from ..model.head import check_linear
from ..model.modes import fast_layout
from ..model.teacher import freeze
from ..request.classes import as_compared
from ..request.ranges import SEED_MOST, whole
from ..task import Outcome, Task, task_for
from .done import account_of, note_steps, save_account, sentences, statement
from .forget_check import ForgetCheckHook
from .forget_set import ForgetSet, select_forget_set
from .hooks import StateHook
from .recipe import apply_recipe, replaced_parts, split_options
from .resume import describe_run
from .states import RunStates, log_to_file

NOT_OF_STREAM = ("batch_sampler", "num_batch_per_epoch", "drop_last", "shuffle")  # options of a train_dataloader


@RUNNERS.register_module()
class UnlearnRunner(RunStates):
    """An mmengine Runner that unlearns, from the model in ``load_from``, the classes that ``unlearn = dict(...)`` names.

    It differs from Runner as follows: the training recipe comes from ``unlearn``; the training data are filtered to the forget
    set before the loader exists; ``load_from`` is loaded strictly and without running code from it; ``resume`` continues from the
    work dir's last state, or starts if there is none; files are saved atomically; the method's hook is added to the user's own;
    DistributedDataParallel also runs without a GPU. ``selection`` is the forget set, selected when the train loop is built.

    Args:
        unlearn: Options, see :class:`delete_tasks.request.recipe.Recipe` and the method's hook; from ``cfg`` if not given.
        device: Device of the model in a run of one process; None takes a GPU if there is one.
        kwargs: As for Runner.
    """

    kind = "unlearn"
    reported = True  # a command writes results.json
    account = account_of

    def __init__(self, *args: Any, unlearn: Any = None, device: Any = None, **kwargs: Any) -> None:
        self.device = device
        self.unlearn = unlearn if unlearn is not None else (kwargs.get("cfg") or {}).get("unlearn")
        self.recipe, self.method_config = split_options(self.unlearn or {})
        wrapper = kwargs.get("optim_wrapper") or {}
        self.accumulation = int(wrapper.get("accumulative_counts", 1))
        # A copy, since OptimWrapper removes keys from its config.
        self.wrapper_config = copy.deepcopy({name: value for name, value in wrapper.items() if name != "optimizer"})
        self.method = HOOKS.build(dict(self.method_config))
        if (seed := (kwargs.get("randomness") or {}).get("seed")) is not None:
            whole("randomness.seed", seed, 0, SEED_MOST)
        for path in (kwargs.get("load_from"), self.recipe.teacher):
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"no checkpoint at '{path}'; give the path of the original model's weights")
        self.selection, self.outcome = Selection(), Outcome()
        self._began, self._earlier = time.monotonic(), dict[str, float]()
        self._dataset_config: Any = None  # of a dataset that was built before the run
        super().__init__(*args, **kwargs)
        self.work.keep_states |= self.recipe.keep_states

    def claim_options(self, config: dict[str, Any]) -> dict[str, Any]:
        original = config.get("load_from")
        return {
            "request": {"original": original, "classes": as_compared(self.method.request.classes)},
            "originals": [original, self.recipe.teacher],
            "overwrite": self.recipe.overwrite,
            "resume": bool(config.get("resume")),
        }

    @classmethod
    def from_cfg(cls, cfg: Any, dataset: Any = None) -> "UnlearnRunner":
        """Build from a training config with ``unlearn`` and ``load_from``; see :func:`delete_tasks.runner.recipe.apply_recipe`.
        ``dataset`` is that of ``train_dataloader``, if it was built and checked before the work dir existed."""
        with told_once(cfg.get("launcher", "none") != "none"):
            runner = super().from_cfg(apply_recipe(cfg))
        if dataset is not None:
            runner._dataset_config = copy.deepcopy(runner._train_dataloader["dataset"])
            runner._train_dataloader["dataset"] = dataset
        runner.reported = dataset is not None
        if replaced := replaced_parts(cfg):
            runner.logger.warning(
                f"{', '.join(replaced)} of the config belong to its training recipe, which unlearn replaces: no effect here."
            )
        return runner

    # Parts -------------------------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task:
        """Task plugin that handles the model."""
        return task_for(self.unwrapped_model)

    @property
    def teacher_path(self) -> str:
        return self.recipe.teacher or self._load_from

    @cached_property
    def teacher(self) -> nn.Module:
        """Frozen original, made at first use."""
        teacher = copy.deepcopy(self.unwrapped_model)
        load_weights(teacher, self.teacher_path)
        teacher = fast_layout(freeze(teacher, self.task.training_flags))
        self.work.check_inputs()  # the bytes that were just loaded are those of the request
        return teacher

    @cached_property
    def teacher_sha256(self) -> str:
        return file_sha256(self.teacher_path)

    description = cached_property(describe_run)  # type: ignore[assignment]

    # Differences from training -------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict) -> None:
        flush_subnormals()  # first, since worker threads inherit it
        if self._distributed and not torch.cuda.is_available() and not torch.distributed.is_initialized():
            # mmengine's launcher selects a CUDA device first; without one the process group must exist already.
            seconds = (env_cfg.get("dist_cfg") or {}).get("timeout")
            timeout = None if seconds is None else timedelta(seconds=seconds)
            torch.distributed.init_process_group("gloo", timeout=timeout)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if not is_model_wrapper(model):
            for layer in () if self.recipe.keep_row else self.task.class_layers(model):
                # Before the first step: its class weights are replaced after the last.
                check_linear(layer.module, layer.name)
            self.method.freeze(self.task, model)
        if self.device is not None and not self.distributed:
            return revert_sync_batchnorm(model.to(self.device))
        if self.distributed and not torch.cuda.is_available() and not is_model_wrapper(model):
            model = revert_sync_batchnorm(model)  # synchronised batch norm needs a GPU
            options = {"broadcast_buffers": False, **(model_wrapper_cfg or {})}
            options.pop("type", None)
            return MMDistributedDataParallel(module=model, **options)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(self.method)
        self.register_hook(ForgetCheckHook())

    def train(self) -> nn.Module:
        self._began = time.monotonic()
        with told_once(self.distributed):
            model = super().train()
        self.finish()
        if get_rank() == 0:
            self.outcome.done = statement(self)
            log_to_file(self.logger, sentences(self.outcome.done))
            if not self.reported and self.outcome.published is not None:
                save_account(self)
        self.outcome.seconds = self._seconds()
        begin_stage("table")
        return model

    def _seconds(self) -> dict[str, float]:
        """Return the seconds so far by part, summed over the attempts of a resumed run."""
        seconds = dict(self.outcome.seconds)
        seconds["unlearning"] = time.monotonic() - self._began - seconds["selecting"]
        return {name: round(spent + self._earlier.get(name, 0.0), 1) for name, spent in seconds.items()}

    def finish(self) -> None:
        """Remove the forgotten classes from the last layer, once, on every process, after the last state is saved."""
        if self.outcome.finished is None:
            note_steps(self)
            self.outcome.finished = self.task.finish(self)

    def build_train_loop(self, loop: Any) -> Any:
        loader = self._train_dataloader
        if isinstance(loader, dict) and not isinstance(loader["dataset"], ForgetSet):
            begin_stage("forget set")
            begin = time.monotonic()
            self.selection = select_forget_set(self, loader["dataset"], self._dataset_config)
            self._train_dataloader = {
                **{name: value for name, value in loader.items() if name not in NOT_OF_STREAM},
                "dataset": ForgetSet(self.selection.dataset, self.selection.indices, self.seed),
                "sampler": {"type": "StreamSampler"},
            }
            self.outcome.seconds["selecting"] = round(time.monotonic() - begin, 1)
        loop = super().build_train_loop(loop)
        if self.distributed:
            loop.dataloader_iterator = SharedErrors(loop.dataloader_iterator)
        return loop

    def begin(self) -> None:
        self.load_checkpoint(self._load_from)

    def own_state(self) -> dict[str, Any]:
        """Return request, method's state, facts and seconds so far and the teacher's digest, but no weights of the teacher."""
        return {
            **super().own_state(),
            "teacher_sha256": self.teacher_sha256,
            "method": self.method.state_dict(),
            "facts": self.outcome.facts.state(),
            "seconds": self._seconds(),
        }

    def check_state(self, state: Mapping[str, Any], meta: Mapping[str, Any], filename: str) -> None:
        """Check the state of a run, and restore the method's part of it. Raise :class:`CheckpointMismatchError` for a state of
        another request or original, :class:`RequestError` for one past ``unlearn.steps``."""
        super().check_state(state, meta, filename)
        if state["teacher_sha256"] != self.teacher_sha256:
            raise CheckpointMismatchError(
                f"the original of this run had SHA-256 {state['teacher_sha256']}, but '{self.teacher_path}' has "
                f"{self.teacher_sha256}; put the original back, or start anew in another --work-dir"
            )
        if meta["iter"] > self.train_loop.max_iters:
            raise RequestError(
                f"'{filename}' is at step {meta['iter'] // self.accumulation}, past steps={self.recipe.steps}; raise steps"
            )
        self.method.load_state_dict(state["method"])
        self.outcome.facts.restore(state["facts"])
        self._earlier = state.get("seconds", {})

    def publish(self) -> None:
        """Write the erased model, weights and neutral meta data, as ``work_dir/erased.pth`` or in the task's own format, and
        delete an earlier run's. Write nothing if a hook has set the outcome's ``withheld``."""
        self.work.retire()
        if self.outcome.withheld is not None:
            self.logger.warning(f"The model is not written: {self.outcome.withheld}.", extra={"printed": True})
            return
        model, selection, path = self.unwrapped_model, self.selection, str(Path(self.work_dir) / "erased")
        refuse_non_finite(model.state_dict(), f"a smaller learning rate than {self.recipe.optimizer.get('lr')}")
        names, ids = selection.class_names, selection.forget_ids
        self.outcome.published = self.task.save_erased(model, names, ids, selection.dataset, path)
        published = Path(self.outcome.published)
        files = published.iterdir() if published.is_dir() else [published]
        self.work.marks |= marks_of(file for file in files if file.suffix in WEIGHTS)
        self.logger.info(
            f"The erased model is {self.outcome.published}. Delete the original, and logs and configs that name the forgotten "
            f"classes (some in {self.work_dir}), yourself."
        )


@HOOKS.register_module()
class UnlearnCheckpointHook(StateHook):
    """State of the run every ``interval`` optimizer steps, and at its end the published model, without names and optimizer."""

    def after_train(self, runner: UnlearnRunner) -> None:
        super().after_train(runner)
        runner.finish()
        together(master_only(runner.publish))()
