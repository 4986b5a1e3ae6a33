"""Saving that loses nothing: the new file is whole before the old one goes, and a run that stops early saves, too."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..atomic import save_text
from ..processes import together


@HOOKS.register_module()
class StateHook(Hook):
    """Keeps the state of the run in ``work_dir/step_N.pth``, the newest alone.

    Ctrl-C and SIGTERM save the state, too: after the step that is under way.

    Args:
        interval: Optimizer steps between saved states.
        minutes: A state is saved, too, when the last is so old; None: never.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int, minutes: float | None = None) -> None:
        self.interval, self.minutes = interval, minutes
        self.saved: int | None = None
        self.saved_at = 0.0  # on the monotonic clock
        self.last: str | None = None  # name of the newest state
        self.signals: dict[int, Any] = {}
        self.stopped_by: int | None = None

    def before_train(self, runner: Any) -> None:
        self.saved_at = time.monotonic()
        if runner.resumed_from:
            self.saved, self.last = runner.iter // runner.accumulation, Path(runner.resumed_from).name
            self._own(runner)
        if threading.current_thread() is threading.main_thread():
            self.signals = {
                number: signal.signal(number, self._note_signal) for number in (signal.SIGINT, signal.SIGTERM)
            }

    def _own(self, runner: Any) -> None:
        for name in (str(self.last), "last_checkpoint"):
            runner.work.own(Path(runner.work_dir) / name, state=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
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
        """Ctrl-C or SIGTERM: the step is finished and saved first. A second one stops at once."""
        if self.stopped_by is not None:
            self.restore_signals()
            signal.raise_signal(number)
        self.stopped_by = number

    def restore_signals(self) -> None:
        """Give Ctrl-C and SIGTERM back to whoever had them."""
        for number, handler in self.signals.items():
            signal.signal(number, handler)
        self.signals = {}

    def after_train(self, runner: Any) -> None:
        runner.work.started = True  # also of a run that a closed form left no steps to do
        self.restore_signals()
        step = runner.iter // runner.accumulation
        if self.saved != step:
            together(self._save)(runner, step)

    def _save(self, runner: Any, step: int) -> None:
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


@HOOKS.register_module()
class UnlearnCheckpointHook(StateHook):
    """Keeps the state of the run, and publishes ``work_dir/erased.pth``.

    The published file holds weights and neutral meta data: no optimizer state, no name of what was forgotten.

    Args:
        interval: Optimizer steps between saved states.
    """

    def __init__(self, interval: int = 25) -> None:
        super().__init__(interval)

    def after_train(self, runner: Any) -> None:
        super().after_train(runner)
        runner.finish()
        together(self._publish)(runner)

    def _publish(self, runner: Any) -> None:
        if is_main_process():
            runner.publish(str(Path(runner.work_dir) / "erased.pth"))
