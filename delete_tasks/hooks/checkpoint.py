"""Saving that loses nothing: the new file is whole before the old one goes, and a run that stops early saves, too."""

from __future__ import annotations

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

    The published file holds weights and neutral meta data: no optimizer state, no name of what was forgotten.

    Args:
        interval: Optimizer steps between saved states.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 25) -> None:
        self.interval = interval
        self.saved: int | None = None

    def before_train(self, runner: Any) -> None:
        self.saved = runner.iter // runner.accumulation if runner.resumed_from else None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        # Gradients that are still being accumulated are not part of a saved state, so states lie between steps.
        if (batch_idx + 1) % (self.interval * runner.accumulation) == 0:
            together(self._save)(runner, (batch_idx + 1) // runner.accumulation)

    def after_train(self, runner: Any) -> None:
        step = runner.iter // runner.accumulation
        if self.saved != step:
            together(self._save)(runner, step)
        together(self._publish)(runner)

    def _publish(self, runner: Any) -> None:
        if is_main_process():
            runner.publish(str(Path(runner.work_dir) / "erased.pth"))

    def _save(self, runner: Any, step: int) -> None:
        self.saved = step
        if not is_main_process():
            return
        name = f"step_{step}.pth"
        folder = Path(runner.work_dir)
        runner.save_checkpoint(str(folder), name, meta={"iter": step * runner.accumulation, "epoch": 0})
        save_text(str(folder / name), folder / "last_checkpoint")
        for other in folder.glob("step_*.pth"):
            if other.name != name:
                other.unlink()
