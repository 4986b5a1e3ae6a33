"""The learning rate's schedule goes by optimizer steps."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StepSchedulerHook(ParamSchedulerHook):
    """mmengine's own steps after each iteration, so that with accumulated gradients a step's rate would depend on how many
    iterations it is made of."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (batch_idx + 1) % runner.accumulation == 0:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
