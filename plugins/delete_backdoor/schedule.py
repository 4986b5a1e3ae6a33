"""A learning rate that falls to zero along a half cosine, as a function of the step alone."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class CosineDecay(Hook):
    """Sets lr(step) = lr (1 + cos(pi step / steps)) / 2 before each step; a resumed run needs no state for it."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        step = batch_idx // runner.accumulation
        rate = runner.recipe.optimizer["lr"] * (1 + math.cos(math.pi * step / runner.recipe.steps)) / 2
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = rate
