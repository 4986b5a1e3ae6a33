"""FT-SAM: fine-tuning with sharpness-aware minimization."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import HOOKS
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from delete_tasks.methods.fine_tune import FineTune
from delete_tasks.methods.gradients import GradientHook
from delete_tasks.request.ranges import number
from delete_tasks.task import Run


@HOOKS.register_module()
class FTSAM(FineTune, GradientHook):
    """Fine-tuning on the retain set at the worst weights nearby (arXiv 2304.11823).

    ``unlearn = dict(type='FTSAM', classes=['airplane'])``. Zhu et al., ICCV 2023, eq. 5: a step's gradient is taken at ``w + e``,
    ``e = rho w^2 g / ||w g||`` with the gradient g at w, so that the large weights of backdoor-related neurons move most. Values
    as in BackdoorBench: rho 2, SGD at 0.01 with momentum 0.9, norms training, label smoothing 0.1. A step costs two of FineTune.

    Args:
        rho: Radius of the neighbourhood, in units of the weights.
        options: See :class:`FineTune`.
    """

    rate = 0.01
    smoothing = 0.1

    def __init__(self, rho: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.rho = number("unlearn.rho", rho, 0, 1e3, above=True)
        self._moved: list[Tensor] = []

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        self.refuse_accumulation(runner)
        model = runner.unwrapped_model
        with runner.optim_wrapper.optim_context(model):
            losses = model(**model.data_preprocessor(data_batch, True), mode="loss")
        gradients = torch.autograd.grad(losses["loss_unlearn"], self.parameters)
        for gradient in gradients:
            all_reduce(gradient, "mean")
        with torch.no_grad():
            scaled = [p.abs() * g for p, g in zip(self.parameters, gradients, strict=True)]
            factor = self.rho / (torch.stack([part.norm() for part in scaled]).norm() + 1e-12)
            self._moved = [factor * p.abs() * part for p, part in zip(self.parameters, scaled, strict=True)]
            self._move(1)
        self._momenta = [(norm, norm.momentum) for norm in model.modules() if isinstance(norm, _NormBase)]
        for norm, _ in self._momenta:
            norm.momentum = 0.0  # their statistics are those of the weights themselves

    @torch.no_grad()
    def before_step(self, runner: Run, step: int) -> None:
        self._move(-1)
        for norm, momentum in self._momenta:
            norm.momentum = momentum

    def _move(self, sign: int) -> None:
        for parameter, step in zip(self.parameters, self._moved, strict=True):
            parameter.add_(step, alpha=sign)
