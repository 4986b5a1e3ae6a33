"""Steps that are made of several batches."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import RequestError


class AccumulatedStep:
    """Gradients of several iterations as one batch would give them, which weights each location the same.

    OptimWrapper takes the mean over iterations; what they hold (locations that take part) is known one by one. So each loss's
    gradient is weighted by its share in the locations so far, and the gradients so far by theirs. Values do not change.
    """

    def __init__(self, iterations: int, groups: Sequence[Mapping[str, Any]]) -> None:
        self.iterations = iterations
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.before = self.now = 0.0  # locations of the step's earlier iterations, and of this one too
        self.count: float | None = None

    def begin(self, iteration: int) -> None:
        self.before = 0.0 if iteration % self.iterations == 0 else self.now
        self.count = None

    def share(self, losses: dict[str, Tensor], count: float) -> dict[str, Tensor]:
        """``losses`` of this iteration's ``count`` locations (of all processes), weighted."""
        if self.count is None:
            self.count, self.now = count, self.before + count
            if self.now > 0:
                for parameter in self.parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(self.before / self.now)
        elif count != self.count:
            raise RequestError(
                f"outputs of this model have {self.count:.0f} and {count:.0f} locations that take part, so gradients accumulated "
                "over several batches are not those of one; take accumulative_counts out of optim_wrapper, or locations='all'"
            )
        factor = self.iterations * count / self.now if self.now > 0 else 1.0
        return {name: value.detach() + factor * (value - value.detach()) for name, value in losses.items()}
