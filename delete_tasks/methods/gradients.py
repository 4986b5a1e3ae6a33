"""Base of methods that look at a step's gradients before they are used, or take the step themselves."""

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..errors import RequestError
from ..losses.masks import is_forgotten
from ..model.loss_point import LossInputs
from ..task import Run
from .base import UnlearnHook


class GradientHook(UnlearnHook):
    """A method whose :meth:`before_step` is called with the gradients in place, just before the optimizer would use them.

    The parameters that train are in ``parameters``. :meth:`keep_weights` makes the optimizer leave them as they are.

    Args:
        options: See :class:`UnlearnHook`.
    """

    def prepare(self, runner: Run, model: nn.Module) -> None:
        wrapper = runner.optim_wrapper
        self.parameters: list[nn.Parameter] = [p for group in wrapper.param_groups for p in group["params"]]
        self._restore.append(wrapper.optimizer.register_step_pre_hook(partial(self._at_step, runner)).remove)

    def _at_step(self, runner: Run, *_: Any) -> None:
        self.before_step(runner, runner.iter // runner.accumulation)

    @abstractmethod
    def before_step(self, runner: Run, step: int) -> None:
        """Change the gradients of a step, counted from 0, in ``parameters``: the mean over processes."""

    def gradients(self) -> Tensor:
        """Concatenate all gradients, float32 ``(d,)`` on the CPU; zeros for a parameter without one."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.cat([part.detach().float().flatten().cpu() for part in parts])

    def keep_weights(self) -> None:
        """Take the gradients away: no optimizer changes a parameter without one, not by weight decay either."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def move(self, direction: Tensor) -> None:
        """Add a vector ``(d,)``, in the order of :meth:`gradients`, to the parameters."""
        begin = 0
        for parameter in self.parameters:
            part = direction[begin : begin + parameter.numel()].view_as(parameter)
            parameter.add_(part.to(parameter.device, parameter.dtype))
            begin += parameter.numel()


def retain_weight(name: str, inputs: LossInputs, labelled: bool = True) -> Tensor:
    """Weights ``(N, *locations)``, float32: 1 at locations of the retain set, with ``labelled`` at those that have a label.

    Raises:
        RequestError: There is no retain set, or no label.
    """
    if inputs.labels is None or inputs.retain is None or not bool(inputs.retain.any()):
        what = "with labels, " if labelled else ""
        raise RequestError(f"{name} learns from a retain set {what}and this data has none; give one (--retain)")
    shown = inputs.retain.expand_as(inputs.labels)
    return (shown & (inputs.labels >= 0) if labelled else shown).float()


def label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each location, float32 ``(N, *locations)``; a label outside the classes stands for any class."""
    return F.cross_entropy(logits.float(), labels.clamp(0, logits.shape[1] - 1).long(), reduction="none")


def random_kept(shape: tuple[int, ...], classes: int, ids: list[int], device: torch.device) -> Tensor:
    """Random classes that are kept, int64 of a shape, from the run's seed."""
    kept = torch.tensor([i for i in range(classes) if i not in ids], device=device)
    return kept[torch.randint(len(kept), shape, device=device)]


def share_left(logits: Tensor, ids: list[int], weight: Tensor) -> float:
    """Compute the share of locations with a weight, in all processes, that is predicted as forgotten; 1 if there are no
    locations, since nothing shows that the class is gone."""
    shown = weight > 0
    sums = torch.stack([(is_forgotten(logits.detach().argmax(1), ids) & shown).sum(), shown.sum()]).double()
    all_reduce(sums)
    return float(sums[0] / sums[1]) if sums[1] else 1.0
