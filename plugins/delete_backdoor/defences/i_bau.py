"""I-BAU: adversarial unlearning with an implicit hypergradient."""

from typing import Any

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from delete_tasks.methods.fine_tune import FineTune
from delete_tasks.methods.gradients import GradientHook
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.ranges import number, whole
from delete_tasks.task import Run

STEP, LENGTH = 0.1, 1e-3  # of the fixed-point map, and weight of the perturbation's squared length: the authors' values


@HOOKS.register_module()
class IBAU(FineTune, GradientHook):
    """Fine-tuning on the retain set, a part of it with a universal adversarial perturbation (arXiv 2110.03735).

    ``unlearn = dict(type='IBAU', classes=['airplane'])``. Zeng et al., ICLR 2022, algorithm 1: one perturbation d of all inputs
    is found that changes most predictions; then the weights learn the labels of perturbed inputs, with the gradient of d by
    ``iterations`` fixed-point steps. Values as in BackdoorBench: d by SGD at 10 from 0, a hundredth of the inputs with it, Adam
    at 1e-4, norms frozen, five rounds. There d is found on all samples in turn, here on the first batch of ``interval`` steps.

    Args:
        interval: Optimizer steps with the same perturbation.
        search: SGD steps that find it.
        iterations: Fixed-point steps of the hypergradient; 0 leaves it out.
        portion: Share of the retain samples with the perturbation, one of a batch at least.
        options: See :class:`FineTune`.
    """

    rate = 1e-4
    saved = ("perturbation",)

    def __init__(
        self, interval: int = 4, search: int = 5, iterations: int = 5, portion: float = 0.01, **options: Any
    ) -> None:
        super().__init__(**options)
        self.interval = whole("unlearn.interval", interval, 1, 10**6)
        self.search = whole("unlearn.search", search, 1, 10**6)
        self.iterations = whole("unlearn.iterations", iterations, 0, 1000)
        self.portion = number("unlearn.portion", portion, 0, 1)
        self.perturbation: Tensor | None = None

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        self.refuse_accumulation(runner)
        model = runner.unwrapped_model
        batch = model.data_preprocessor(data_batch, True)
        retained = (batch["retain"] & (batch["labels"] >= 0)).nonzero()[:, 0]
        clean, self._labels = batch["inputs"][retained], batch["labels"][retained]
        with in_eval_mode(model):
            if self.perturbation is None or self.step % self.interval == 0:
                self.perturbation = self._find(model, clean)
        chosen = torch.randperm(len(retained))[: max(1, round(self.portion * len(retained)))].to(clean.device)
        self._share = torch.zeros_like(clean[:, :1, :1, :1]).index_fill_(0, chosen, 1.0)
        self._clean = clean
        data_batch["inputs"][retained.cpu()] += (self._share * self.perturbation).to(data_batch["inputs"])

    def _find(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Find the perturbation ``(1, C, H, W)`` of all inputs that changes most predictions."""
        perturbation = torch.zeros_like(inputs[:1], requires_grad=True)
        predicted = model(inputs).argmax(1)
        for _ in range(self.search):
            (gradient,) = torch.autograd.grad(self._inner(model, inputs, predicted, perturbation), perturbation)
            perturbation = (perturbation - 10 * gradient).detach().requires_grad_()
        return perturbation.detach()

    @staticmethod
    def _inner(model: nn.Module, inputs: Tensor, labels: Tensor, perturbation: Tensor) -> Tensor:
        return LENGTH * perturbation.square().sum() - nn.functional.cross_entropy(model(inputs + perturbation), labels)

    def before_step(self, runner: Run, step: int) -> None:
        if not self.iterations:
            return
        model, perturbation = runner.unwrapped_model, self.perturbation.detach().requires_grad_()  # type: ignore[union-attr]
        with torch.enable_grad(), in_eval_mode(model):
            outer = nn.functional.cross_entropy(model(self._clean + self._share * perturbation), self._labels)
            (direct,) = torch.autograd.grad(outer, perturbation)
            inner = self._inner(model, self._clean, self._labels, perturbation)
            (gradient,) = torch.autograd.grad(inner, perturbation, create_graph=True)
            mapped, vector = perturbation - STEP * gradient, torch.zeros_like(direct)
            for _ in range(self.iterations):
                vector = direct + torch.autograd.grad(mapped, perturbation, vector, retain_graph=True)[0]
            implicit = torch.autograd.grad(mapped, self.parameters, vector, allow_unused=True)
        for parameter, part in zip(self.parameters, implicit, strict=True):
            if part is not None and parameter.grad is not None:
                parameter.grad += part
