"""A progress bar with the time left, for runs that log too little to follow."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from rich.progress import Progress

from ..progress import COLUMNS
from ..terminal import make_console


class ProgressHook(Hook):
    """A bar over optimizer steps on standard error; where that is no terminal, nothing is drawn."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.bar: Progress | None = None

    def before_train(self, runner: Any) -> None:
        self.bar = Progress(*COLUMNS, console=make_console(stderr=True), transient=True)
        self.bar.start()
        total = runner.max_iters // runner.accumulation
        self.bar.add_task("Unlearning", total=total, completed=runner.iter // runner.accumulation)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=(batch_idx + 1) // runner.accumulation)

    def after_train(self, runner: Any) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back; a run that fails ends without ``after_train``."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
