"""Retention guard: restart of a run that damages the remaining classes, at a lower rate. It reads no labels."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..losses.masks import is_forgotten
from ..task import Run

WINDOW, LEAST = 10, 100  # optimizer steps that are compared, and locations in them without which nothing is known
SURE = 0.5  # least probability of the original's prediction
STRIDE = 4  # of the locations of a map
LOWER = 3.0  # divisor of the rate


class RetentionGuard:
    """Agreement of the student with the original where the original is sure of a remaining class: on strong views of the forget
    set, their mixes, retain samples, public data and other pixels of an image. ``restarts`` have ``step``, ``agreement``
    (percent) and the ``rate`` from then on; ``window`` has the agreeing and all such locations of the last optimizer steps."""

    def __init__(self) -> None:
        self.restarts: list[dict[str, Any]] = []
        self.window: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._pending = torch.zeros(2, dtype=torch.float64)

    @torch.no_grad()
    def compare(self, student: Tensor, teacher: Tensor, ids: Sequence[int]) -> None:
        """Count the locations of one output, logits ``(N, C, *locations)``."""
        places: Any = (..., *[slice(None, None, STRIDE)] * (student.ndim - 2))
        student, teacher = student[places], teacher[places]
        probability, predicted = teacher.float().softmax(1).max(1)
        sure = (probability > SURE) & ~is_forgotten(predicted, ids)
        same = sure & (student.argmax(1) == predicted)
        self._pending += torch.stack([same.sum(), sure.sum()]).cpu()

    def end_step(self) -> float | None:
        """End an optimizer step; return the agreement in the last ones, 0 to 1, or None if too few locations are known."""
        all_reduce(self._pending)
        self.window.append(tuple(self._pending.tolist()))
        self._pending.zero_()
        same, sure = (sum(column) for column in zip(*self.window, strict=True))
        return same / sure if len(self.window) == WINDOW and sure >= LEAST else None

    def restart(self, runner: Run, step: int, agreement: float) -> None:
        """Set the weights back to the original's and lower the rate; the remaining steps go on from there."""
        runner.unwrapped_model.load_state_dict(runner.teacher.state_dict())
        optimizer = runner.optim_wrapper.optimizer
        optimizer.state.clear()
        for group in optimizer.param_groups:  # schedulers multiply the current rate
            group["lr"] /= LOWER
        rate = float(runner.recipe.optimizer["lr"]) / LOWER ** (len(self.restarts) + 1)
        self.window.clear()
        self.restarts.append({"step": step, "agreement": round(100 * agreement, 1), "rate": rate})
        runner.logger.warning(
            f"Step {step}: the model agrees with the original on only {agreement:.1%} of the predictions of other classes. The "
            f"weights were set back to the original's; the learning rate goes on at {rate:.2g}."
        )

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"restarts": self.restarts, "window": [list(pair) for pair in self.window]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.restarts = [dict(restart) for restart in state["restarts"]]
        self.window.extend(tuple(pair) for pair in state["window"])
