"""A learning rate that rises from almost nothing, so that a run which stops as soon as it can has moved as little as it can."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from delete_tasks.ranges import number


@HOOKS.register_module()
class RisingRate(Hook):
    """lr(step) = lr * share ** (1 - step / steps): from ``share`` of the optimizer's rate up to all of it.

    What rate takes a backdoor out depends on the network (1e-5 for a ResNet-18, more for small ones). With the watch's
    ``stop`` no rate need be known: the run ends at the first that is high enough. A resumed run needs no state for it.

    Args:
        share: Of the rate, at the first step; above 0 and at most 1.
    """

    part_of_recipe = True  # a run that goes on must have it, too, and as many steps

    def __init__(self, share: float = 0.01) -> None:
        number("the share of the learning rate that RisingRate begins with", share, 0, 1, above=True)
        self.share = share

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        done = batch_idx // runner.accumulation / runner.recipe.steps
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = runner.recipe.optimizer["lr"] * self.share ** (1 - done)
