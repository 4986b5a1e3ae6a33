"""Base of methods that change a step's gradients or take the step themselves, and the losses that methods share."""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import RequestError
from ..model.loss_point import LossInputs
from ..task import Run
from .base import UnlearnHook


class GradientHook(UnlearnHook):
    """A method whose :meth:`before_step` is called with the gradients in place, just before the optimizer uses them.

    The parameters that train are in ``parameters``. :meth:`keep_weights` makes the optimizer leave them as they are.
    """

    def prepare(self, runner: Run, model: nn.Module) -> None:
        wrapper = runner.optim_wrapper
        self.parameters: list[nn.Parameter] = [p for group in wrapper.param_groups for p in group["params"]]
        hook = wrapper.optimizer.register_step_pre_hook(lambda *_: self.before_step(runner, self.step))
        self._restore.append(hook.remove)

    @abstractmethod
    def before_step(self, runner: Run, step: int) -> None:
        """Change the gradients of a step, counted from 0, in ``parameters``: the mean over processes."""

    def refuse_accumulation(self, runner: Run) -> None:
        """Refuse steps over several batches, for a method that changes the gradient by one batch."""
        if runner.accumulation > 1:
            name = type(self).__name__
            raise RequestError(f"{name} takes a batch a step; take accumulative_counts out of optim_wrapper")

    def keep_weights(self) -> None:
        """Remove a step's gradients: no optimizer changes a parameter without one, not by weight decay either."""
        self.idle += 1
        for parameter in self.parameters:
            parameter.grad = None


def retain_weight(name: str, inputs: LossInputs, labelled: bool = True) -> Tensor:
    """Weigh the retain set, ``labelled`` or all, by 1, others by 0: float32 ``(N, *locations)``. Refuse data without any."""
    if inputs.labels is None or inputs.retain is None or not bool(inputs.retain.any()):
        kind = "labelled retain set" if labelled else "retain set"
        raise RequestError(f"{name} needs a {kind}, and the data have none; give one (--retain)")
    retained = inputs.retain.expand_as(inputs.labels)
    return (retained & (inputs.labels >= 0) if labelled else retained).float()


def label_losses(logits: Tensor, labels: Any, smoothing: float = 0.0) -> Tensor:
    """Compute the cross entropy of each location, float32 ``(N, *locations)``; labels outside the classes are clamped."""
    labels = labels.clamp(0, logits.shape[1] - 1).long()
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)


def random_retained(shape: tuple[int, ...], classes: int, ids: list[int], device: torch.device) -> Tensor:
    """Draw random classes other than ``ids``, int64 of a shape, from the run's seed."""
    retained = torch.tensor([i for i in range(classes) if i not in ids], device=device)
    return retained[torch.randint(len(retained), shape, device=device)]
