"""A Runner that keeps states of its run and goes on from the last one, and the hooks that save them.

Saving loses nothing: the new file is whole before the old one goes, and a run that stops early saves as well.
"""

import os
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from ..errors import CheckpointMismatchError
from ..fileio.atomic import save_text
from ..fileio.checkpoint import load_file, load_once, load_state, save_file, state_dict_of
from ..fileio.processes import together
from .files import RunFiles
from .resume import check_same_run


class RunStates(RunFiles):
    """A Runner whose run, broken off and resumed, gives the tensors of an uninterrupted one.

    ``resume`` continues the work dir's last state, or starts where there is none. States are written by a
    :class:`StateHook`. All randomness has to follow from the seed and the step, see
    :class:`delete_tasks.runner.forget_set.ForgetSet` and :func:`delete_tasks.fileio.seeds.seed_all`.

    Attributes:
        kind: What this kind of run calls its part of a state.
        accumulation: Iterations of the loop in an optimizer step.
        resumed_from: The state that the run goes on from.
    """

    kind: str
    accumulation = 1
    _has_loaded: bool  # Runner's own
    _train_dataloader: Any
    resumed_from: str | None = None

    @cached_property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the run's result depends on, see :func:`delete_tasks.runner.resume.describe`; its train loop must be built."""

    def begin(self) -> None:
        """Prepare a run that is not resumed, before its first step."""

    def own_state(self) -> dict[str, Any]:
        """Return the content of a state beside weights, optimizer and place in the stream."""
        return {"request": self.description}

    def check_state(self, state: Mapping[str, Any], meta: Mapping[str, Any], filename: str) -> None:
        """Refuse a state that the run cannot go on from. ``state`` is what :meth:`own_state` gave."""
        check_same_run(state["request"], self.description, filename)

    @property
    def unwrapped_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    @together
    def load_or_resume(self) -> None:
        if self._has_loaded:
            return
        self.description  # noqa: B018 - made now, at the same moment in a run that begins and in one that goes on
        last = self._last_state() if self._resume else None
        if last is not None:
            self.resume(last)
        else:
            if self._resume:
                self.logger.info(f"Nothing to resume in {self.work_dir}; starting from the beginning.")
            self.begin()
        self._has_loaded = True

    def _last_state(self) -> str | None:
        pointer = Path(self.work_dir) / "last_checkpoint"
        if not pointer.is_file():
            return None
        # A moved work dir keeps its files' names, not their folder.
        path = Path(self.work_dir) / Path(pointer.read_text(encoding="utf-8", errors="replace").strip()).name
        if not path.is_file():
            raise FileNotFoundError(
                f"'{pointer}' names '{path.name}', which is not in {self.work_dir}; restore or delete it"
            )
        return str(path)

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = True, **_: Any) -> Any:
        """Load weights strictly, through the one safe loading function."""
        checkpoint = load_once(filename) if filename == self._load_from else load_file(filename)
        checkpoint = dict(checkpoint) if isinstance(checkpoint, dict) else checkpoint  # hooks may take parts out
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_state(self.unwrapped_model, state_dict_of(checkpoint, f"'{filename}'"), f"'{filename}'")
        self._has_loaded = True
        self.logger.info(f"Loaded {filename}")
        return checkpoint

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Continue from a state that this kind of run saved.

        Raises:
            CheckpointMismatchError: It belongs to another run, or to none of this kind.
        """
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint.get("meta", {})
        if self.kind not in checkpoint:
            raise CheckpointMismatchError(
                f"'{filename}' is the state of another kind of run (this one's hold '{self.kind}'); give an empty work dir"
            )
        self.check_state(checkpoint[self.kind], meta, filename)
        self.train_loop._iter = meta["iter"]
        self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        for scheduler, saved in zip(self._schedulers(), checkpoint["param_schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.resumed_from = filename
        step, steps = meta["iter"] // self.accumulation, self.max_iters // self.accumulation
        self.logger.info(f"Resumed at step {step} of {steps} from {filename}")

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *_: Any, meta: dict | None = None, **__: Any) -> None:
        """Save the state of the run: weights, optimizer, place in the stream."""
        checkpoint = {
            "meta": {"seed": self.seed, **(meta or {})},
            "state_dict": {name: value.cpu() for name, value in self.unwrapped_model.state_dict().items()},
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self._schedulers()],
            self.kind: self.own_state(),
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_file(checkpoint, os.path.join(out_dir, filename))

    def _schedulers(self) -> list[Any]:
        found = self.param_schedulers
        return list(found) if isinstance(found, list) else []


@HOOKS.register_module()
class StateHook(Hook):
    """State of the run in ``work_dir/step_N.pth``, the newest alone.

    Ctrl-C and SIGTERM save the state as well, after the step that is under way.

    Args:
        interval: Optimizer steps between saved states.
        minutes: Age of the last state at which another is saved whatever the step; None: never.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int, minutes: float | None = None) -> None:
        self.interval, self.minutes = interval, minutes
        self.saved: int | None = None
        self.saved_at = 0.0  # on the monotonic clock
        self.last: str | None = None  # name of the newest state
        self.signals: dict[int, Any] = {}
        self.stopped_by: int | None = None

    def before_train(self, runner: RunStates) -> None:
        self.saved_at = time.monotonic()
        if runner.resumed_from:
            self.saved, self.last = runner.iter // runner.accumulation, Path(runner.resumed_from).name
            self._own(runner)
        if threading.current_thread() is threading.main_thread():
            self.signals = {
                number: signal.signal(number, self._note_signal) for number in (signal.SIGINT, signal.SIGTERM)
            }

    def _own(self, runner: RunStates) -> None:
        for name in (str(self.last), "last_checkpoint"):
            runner.work.own(Path(runner.work_dir) / name, state=True)

    def after_train_iter(self, runner: RunStates, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        runner.work.started = True
        if (batch_idx + 1) % runner.accumulation:
            return  # gradients that are still being accumulated are not part of a saved state, so states lie between steps
        step = (batch_idx + 1) // runner.accumulation
        if step % self.interval == 0 or self._is_late():
            together(self._save)(runner, step)
        if self.stopped_by is not None:
            # By this process alone: a signal need not reach the others at the same step.
            self._save(runner, step)
            self.restore_signals()
            if self.stopped_by == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM)
            raise KeyboardInterrupt(
                f"Step {step} of {runner.max_iters // runner.accumulation} is saved in {runner.work_dir}; go on with the same "
                "command and --resume."
            )

    def _is_late(self) -> bool:
        if self.minutes is None:
            return False
        late = torch.tensor(float(time.monotonic() - self.saved_at >= 60 * self.minutes))
        broadcast(late)  # clocks differ, and all processes have to save at the same step
        return bool(late)

    def _note_signal(self, number: int, _: Any) -> None:
        """Finish and save the step before Ctrl-C or SIGTERM ends the run; stop at once at the second."""
        if self.stopped_by is not None:
            self.restore_signals()
            signal.raise_signal(number)
        self.stopped_by = number

    def restore_signals(self) -> None:
        """Put the former handlers of Ctrl-C and SIGTERM back."""
        for number, handler in self.signals.items():
            signal.signal(number, handler)
        self.signals = {}

    def after_train(self, runner: RunStates) -> None:
        runner.work.started = True  # also of a run that a closed form left no steps to do
        self.restore_signals()
        step = runner.iter // runner.accumulation
        if self.saved != step:
            together(self._save)(runner, step)

    def _save(self, runner: RunStates, step: int) -> None:
        self.saved, self.saved_at, last = step, time.monotonic(), self.last
        if not is_main_process():
            return
        name = self.last = f"step_{step}.pth"
        folder = Path(runner.work_dir)
        self._own(runner)
        runner.save_checkpoint(str(folder), name, meta={"iter": step * runner.accumulation, "epoch": 0})
        save_text(str(folder / name), folder / "last_checkpoint")
        if last is not None and last != name:
            runner.work.remove(folder / last)
