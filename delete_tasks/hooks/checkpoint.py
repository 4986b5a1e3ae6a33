"""Saving that loses nothing: the new file is whole before the old one goes, and a run that stops early saves, too."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..checkpoint import save_text
from ..processes import together


@HOOKS.register_module()
class UnlearnCheckpointHook(Hook):
    """Keeps the state of the run in ``work_dir/step_N.pth``, the newest alone, and publishes ``work_dir/erased.pth``.

    Ctrl-C and SIGTERM save the state, too: after the step that is under way.

    The published file holds weights and neutral meta data: no optimizer state, no name of what was forgotten.

    Args:
        interval: Optimizer steps between saved states.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 25) -> None:
        self.interval = interval
        self.saved: int | None = None
        self.last: str | None = None  # name of the newest state
        self.signals: dict[int, Any] = {}
        self.stopped_by: int | None = None

    def before_train(self, runner: Any) -> None:
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
        # Gradients that are still being accumulated are not part of a saved state, so states lie between steps.
        if (batch_idx + 1) % (self.interval * runner.accumulation) == 0:
            together(self._save)(runner, (batch_idx + 1) // runner.accumulation)
        if self.stopped_by is not None and (batch_idx + 1) % runner.accumulation == 0:
            # By this process alone: a signal need not reach the others at the same step.
            self._save(runner, (batch_idx + 1) // runner.accumulation)
            self.restore_signals()
            if self.stopped_by == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM)
            raise KeyboardInterrupt(
                f"Step {(batch_idx + 1) // runner.accumulation} of {runner.recipe.steps} is saved in {runner.work_dir}; go on "
                "with the same command and --resume."
            )

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
        self.restore_signals()
        step = runner.iter // runner.accumulation
        if self.saved != step:
            together(self._save)(runner, step)
        runner.finish()
        together(self._publish)(runner)

    def _publish(self, runner: Any) -> None:
        if is_main_process():
            runner.publish(str(Path(runner.work_dir) / "erased.pth"))

    def _save(self, runner: Any, step: int) -> None:
        self.saved, last = step, self.last
        if not is_main_process():
            return
        name = self.last = f"step_{step}.pth"
        folder = Path(runner.work_dir)
        self._own(runner)
        runner.save_checkpoint(str(folder), name, meta={"iter": step * runner.accumulation, "epoch": 0})
        save_text(str(folder / name), folder / "last_checkpoint")
        if last is not None and last != name:
            runner.work.remove(folder / last)
