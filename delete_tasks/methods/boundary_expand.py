"""Boundary expand: cross entropy of the forget set to an extra class, which is removed at the end."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_dist_info
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError
from ..model.loss_point import LossInputs
from ..task import Run
from .base import LossSums
from .gradients import GradientHook

MOMENTUM = 0.9


@HOOKS.register_module()
class BoundaryExpand(GradientHook):
    """Cross entropy to an extra class, which is removed at the end (CVPR 2023).

    ``unlearn = dict(type='BoundaryExpand', classes=['car'])``. Chen et al., "Boundary Unlearning" (arXiv 2303.11570), section
    4.2: the last layer gets a further class, a shadow class, to which the forget set is trained; without it its samples fall to
    the remaining classes. The authors' recipe: SGD at 1e-5 with momentum 0.9, 10 epochs in batches of 64; here that is
    780 steps, 10 epochs of 5,000 images. The shadow class's weights are initialised as a new linear layer's, from the run's
    seed, and trained with the optimizer's rate and momentum 0.9; they are never part of the model. Heads without the last
    layer (auxiliary ones) get no loss. Needs the forget set alone, with labels.
    """

    needs_teacher = uses_retain_set = False
    needs_labels = True
    rate = 1e-5
    saved = ("row", "velocity")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.row: Tensor | None = None  # (d + 1,), the bias last
        self.velocity: Any = 0.0  # of the row, for the momentum

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        layer: Any = runner.task.classifier(model)[1]
        width, device = layer.weight.shape[1], layer.weight.device
        if self.row is None:
            generator = torch.Generator().manual_seed(runner.seed)
            self.row = (2 * torch.rand(width + 1, generator=generator) - 1) / math.sqrt(width)
        self.row = self.row.detach().to(device).requires_grad_()
        self.velocity = torch.as_tensor(self.velocity).to(device)
        self._restore.append(layer.register_forward_pre_hook(self._keep_features).remove)

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        weight = self.forgotten_weight(inputs, weight)
        features, self._features = self._features, None
        if features is None:
            return student.sum() * 0.0, {}, weight.sum()
        if features.ndim != student.ndim:
            raise RequestError(
                f"the last layer reads {tuple(features.shape)} and the loss {tuple(student.shape)}, so a shadow class has no "
                "logit there; use type='BoundaryShrink'"
            )
        row: Tensor = self.row  # type: ignore[assignment]
        shadow = torch.einsum("nd...,d->n...", features.float(), row[:-1]) + row[-1]
        if shadow.shape[1:] != student.shape[2:]:  # as the heads resize their logits
            shadow = F.interpolate(shadow.unsqueeze(1), student.shape[2:], mode="bilinear").squeeze(1)
        widened = torch.cat([student.float(), shadow.unsqueeze(1)], 1)
        target = torch.full(weight.shape, student.shape[1], device=student.device)
        losses = F.cross_entropy(widened, target, reduction="none")
        return (losses * weight).sum(), {}, weight.sum()

    def before_step(self, runner: Run, step: int) -> None:
        row: Any = self.row
        if row.grad is not None:
            all_reduce(row.grad)
            self.velocity = MOMENTUM * self.velocity + row.grad / get_dist_info()[1]
            row.data -= runner.optim_wrapper.param_groups[0]["lr"] * self.velocity
            row.grad = None
