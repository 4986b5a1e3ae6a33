"""Hooks of every :class:`.states.RunStates`: progress bars, a schedule that counts optimizer steps, and saved states."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..display.progress import Bars
from ..display.terminal import begin, begin_stage
from ..fileio.atomic import save_text
from ..fileio.processes import SIGNALS, Interrupted, together


class ProgressHook(Hook):
    """Progress bar over optimizer steps."""

    priority = "LOWEST"
    bar: Bars | None = None

    def before_train(self, runner: Runner) -> None:
        if runner.kind == "unlearn":
            begin_stage("unlearning")
        begin()
        self.bar = Bars()
        self.bar.start()
        title, steps = "Unlearning" if runner.kind == "unlearn" else "Training", runner.max_iters // runner.accumulation
        self.bar.add_task(title, total=steps, completed=runner.iter // runner.accumulation)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=(batch_idx + 1) // runner.accumulation)

    def close(self, runner: Runner | None = None) -> None:
        """Remove the bar from the terminal; a run that fails ends without ``after_train``."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    after_train = close


@HOOKS.register_module()
class StepSchedulerHook(ParamSchedulerHook):
    """Learning rate schedule over optimizer steps; mmengine's counts iterations, several of which may accumulate to a step."""

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (batch_idx + 1) % runner.accumulation == 0:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)


@HOOKS.register_module()
class StateHook(Hook):
    """Newest state of the run in ``work_dir/step_N.pth``, replaced by the next complete one, every ``interval`` optimizer steps,
    and at any step once the last is ``minutes`` old (None: no limit). Ctrl-C, SIGTERM and SIGHUP also save it, after the step."""

    priority = "VERY_LOW"

    def __init__(self, interval: int, minutes: float | None = None) -> None:
        self.interval, self.minutes = interval, minutes
        self.saved_at = 0.0  # on the monotonic clock
        self.last: str | None = None  # name of the newest state
        self.signals: dict[int, Any] = {}
        self.stopped_by: int | None = None

    def before_train(self, runner: Runner) -> None:
        self.saved_at = time.monotonic()
        if runner.resumed_from:
            self.last = Path(runner.resumed_from).name
            self._own(runner)
        if threading.current_thread() is threading.main_thread():
            numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self.signals = {number: signal.signal(number, self._note_signal) for number in numbers}

    def _own(self, runner: Runner) -> None:
        for name in (str(self.last), "last_checkpoint"):
            runner.work.own(Path(runner.work_dir) / name, state=True)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        runner.work.started = True
        if (batch_idx + 1) % runner.accumulation:
            return  # a state does not hold accumulated gradients, so it is saved between steps
        step = (batch_idx + 1) // runner.accumulation
        if step % self.interval == 0 or self._is_late():
            together(self._save)(runner, step)
        if self.stopped_by is not None:
            # Only by this process: a signal need not reach the others at the same step.
            self._save(runner, step)
            handler = self.signals[self.stopped_by]
            self.restore_signals()
            message = (
                f"Step {step} of {runner.max_iters // runner.accumulation} is saved in {runner.work_dir}; continue with the same "
                "command and --resume."
            )
            if handler == signal.SIG_DFL:  # a script of the user's, which an exception would end with Ctrl-C's status
                runner.logger.warning(message)
                raise SystemExit(128 + self.stopped_by)
            raise Interrupted(message, self.stopped_by)

    def _is_late(self) -> bool:
        if self.minutes is None:
            return False
        late = torch.tensor(float(time.monotonic() - self.saved_at >= 60 * self.minutes))
        broadcast(late)  # clocks differ, and all processes have to save at the same step
        return bool(late)

    def _note_signal(self, number: int, _: Any) -> None:
        """Let the run end after the current step; a second signal ends it at once."""
        if self.stopped_by is not None:
            self.restore_signals()
            signal.raise_signal(number)
        self.stopped_by = number

    def restore_signals(self) -> None:
        """Restore the earlier handlers of signals."""
        for number, handler in self.signals.items():
            signal.signal(number, handler)
        self.signals = {}

    def after_train(self, runner: Runner) -> None:
        runner.work.started = True  # a closed form may leave no steps to do
        self.restore_signals()
        step = runner.iter // runner.accumulation
        if self.last != f"step_{step}.pth":
            together(self._save)(runner, step)

    def _save(self, runner: Runner, step: int) -> None:
        before, self.last, self.saved_at = self.last, f"step_{step}.pth", time.monotonic()
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        runner.work.reopen()
        self._own(runner)
        runner.save_checkpoint(str(folder), self.last, meta={"iter": step * runner.accumulation, "epoch": 0})
        save_text(str(folder / self.last), folder / "last_checkpoint")
        if before is not None and before != self.last:
            runner.work.remove(folder / before)
