"""Hooks of every run: a progress bar in the place of a log, and a learning rate's schedule that goes by optimizer steps."""

from typing import Any

from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.progress import Progress

from ..display.terminal import begin, make_progress


class ProgressHook(Hook):
    """A bar over optimizer steps, and one over test batches, on standard error; nothing is drawn if that is no terminal."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.bar: Progress | None = None

    def _begin(self, title: str, total: int, done: int = 0) -> None:
        self.close()
        self.bar = make_progress()
        self.bar.start()
        self.bar.add_task(title, total=total, completed=done)

    def _move(self, done: int) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done)

    def before_train(self, runner: Runner) -> None:
        begin()
        each = getattr(runner, "accumulation", None)
        title = "Training" if each is None else "Unlearning"
        self._begin(title, runner.max_iters // (each or 1), runner.iter // (each or 1))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._move((runner.iter + 1) // getattr(runner, "accumulation", 1))

    def after_train(self, runner: Runner) -> None:
        self.close()

    def before_test(self, runner: Runner) -> None:
        self._begin("Evaluating", len(runner.test_dataloader))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._move(batch_idx + 1)

    def after_test(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal; a run that fails ends without ``after_train``."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


@HOOKS.register_module()
class StepSchedulerHook(ParamSchedulerHook):
    """Schedule of the learning rate by optimizer steps.

    mmengine's own counts iterations, so that with accumulated gradients a step's rate would depend on how many it is made of.
    """

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (batch_idx + 1) % runner.accumulation == 0:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
