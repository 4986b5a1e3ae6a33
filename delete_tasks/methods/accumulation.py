"""Optimizer steps over several batches, and losses over the samples of all processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather, all_reduce, get_dist_info
from torch import Tensor

from ..errors import RequestError


class AccumulatedStep:
    """Gradients of several iterations, with the same weight for each location as in one batch. OptimWrapper averages over
    iterations, whose numbers of locations become known one by one; so each loss's gradient is weighted by its share of the
    locations so far, and the gradients so far by theirs. Values do not change."""

    def __init__(self, iterations: int, groups: Sequence[Mapping[str, Any]]) -> None:
        self.iterations = iterations
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.previous = self.total = 0.0  # locations of the step's iterations without and with this one
        self.count: float | None = None

    def begin(self, iteration: int) -> None:
        self.previous = 0.0 if iteration % self.iterations == 0 else self.total
        self.count = None

    def weighted(self, losses: dict[str, Tensor], count: float) -> dict[str, Tensor]:
        """Weigh this iteration's losses; ``count`` is its number of locations in all processes."""
        if self.count is None:
            self.count, self.total = count, self.previous + count
            if self.total > 0:
                for parameter in self.parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(self.previous / self.total)
        elif count != self.count:
            raise RequestError(
                f"outputs of this model have {self.count:.0f} and {count:.0f} locations that take part, so gradients accumulated "
                "over several batches are not those of one; take accumulative_counts out of optim_wrapper, or locations='all'"
            )
        factor = self.iterations * count / self.total if self.total > 0 else 1.0
        return {name: value.detach() + factor * (value - value.detach()) for name, value in losses.items()}


def share_of_process(value: Tensor) -> Tensor:
    """Scale the gradient of a loss over all processes' samples for DistributedDataParallel, which averages over processes."""
    return value.detach() + get_dist_info()[1] * (value - value.detach())


def sum_over_processes(value: Tensor) -> Tensor:
    all_reduce(value)
    return value


def of_all_processes(samples: Tensor) -> Tensor:
    """Gather the samples of all processes; only this process's have a gradient."""
    rank, processes = get_dist_info()
    if processes == 1:
        return samples
    parts = all_gather(samples.detach())
    return torch.cat([*parts[:rank], samples, *parts[rank + 1 :]])
