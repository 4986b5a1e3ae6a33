"""Fisher forgetting: noise on weights with little Fisher information of the retain set."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..model.loss_point import LossInputs
from ..request.ranges import number
from ..task import Run
from .base import LossSums
from .gradients import GradientHook, label_losses, retain_weight

MOST, MOST_LAST = 1e3, 1e2  # bounds of 1/F, in the last layer
FORGOTTEN = 1e-4  # variance of the forgotten classes' weights
LARGER = 10.0  # factor of the variance of the last layer, biases and norms


@HOOKS.register_module()
class Fisher(GradientHook):
    """Noise on weights with little Fisher information of the retain set (CVPR 2020).

    ``unlearn = dict(type='Fisher', classes=['deer'])`` with a retain set. Golatkar et al., "Eternal Sunshine of the Spotless
    Net" (arXiv 1911.04933), eq. 8: weights get normal noise of variance ``alpha / F``, F the diagonal of the Fisher information
    of the retain set. The first steps collect F and change nothing; the last one adds the noise. As in the authors' code, 1/F is
    bounded, averaged over a filter's weights, ten times as large for the last layer and for biases and norms, and the
    forgotten classes' weights in the last layer become noise around 0.

    The authors take each sample and class by itself. Here a batch's labels are drawn from the model's predictions: the
    square of the batch's summed gradient is then F in the mean, since gradients under such labels have mean 0.

    Args:
        alpha: Factor of the variance; the authors' value. A larger one forgets more, of all classes.
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    needs_retain_set = True
    forget_use, retain_use = "read without weight in the loss", "Fisher information computed from"
    saved = ("information",)

    def __init__(self, alpha: float = 1e-6, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = number("unlearn.alpha", alpha, 0, 1, above=True)
        self.information: Any = 0.0  # (d,), of all weights
        self._samples = torch.zeros(())

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        retain = retain_weight("Fisher", inputs, labelled=False)
        with torch.no_grad():
            probabilities = student.float().softmax(1).movedim(1, -1)
            drawn = torch.multinomial(probabilities.flatten(0, -2), 1).view(probabilities.shape[:-1])
        self._samples = retain.sum().detach().double()
        all_reduce(self._samples)
        return (label_losses(student, drawn) * retain).sum(), {}, retain.sum()

    def before_step(self, runner: Run, step: int) -> None:
        # The loss is a mean over n samples: n times its square is the information of one.
        self.information = self.information + float(self._samples) * self.gradients() ** 2 / runner.recipe.steps
        self.keep_weights()
        if step == runner.recipe.steps - 1:
            self._add_noise(runner)

    @torch.no_grad()
    def _add_noise(self, runner: Run) -> None:
        generator = torch.Generator().manual_seed(runner.seed)  # the same on all processes
        last: nn.Module = runner.task.classifier(runner.unwrapped_model)[1]
        last_parameters = {id(parameter) for parameter in last.parameters()}
        for parameter, square in self.split(self.information):
            is_last = id(parameter) in last_parameters
            variance = (1 / (square + 1e-8)).clamp(max=MOST_LAST if is_last else MOST) * self.alpha
            if variance.ndim > 1:
                variance = variance.flatten(1).mean(1).view(-1, *[1] * (variance.ndim - 1)).expand_as(square).clone()
            if is_last or parameter.ndim == 1:
                variance *= LARGER
            if is_last and parameter.shape[:1] == (len(runner.selection.class_names),):
                parameter[self.ids] = 0.0
                variance[self.ids] = FORGOTTEN
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(
                noise.to(parameter.device, parameter.dtype) * variance.sqrt().to(parameter.device, parameter.dtype)
            )
        runner.outcome.facts.change("noise", buffers=False, alpha=self.alpha)
