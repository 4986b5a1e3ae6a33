"""Projection: the class's direction is projected out of the last layer and of its features, in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import UnsupportedModelError
from ..model.loss_point import LossInputs
from ..model.projection import multiply_outputs, project_out, projection
from ..task import Run
from .base import LossSums
from .gradients import GradientHook

BatchNorm = nn.modules.batchnorm._BatchNorm
LayerCall = tuple[nn.Module, Tensor, Tensor]  # layer, input, output


def class_directions(weight: Tensor, means: Tensor, ids: Sequence[int]) -> Tensor:
    """Compute an orthonormal basis ``(D, at most 2 len(ids))`` of the directions that tell the classes ``ids`` from others: for
    each its centred weights, of the last layer's ``(C, D)``, and its mean feature, of ``means`` ``(len(ids), D)``, projected onto
    the centred weights of all classes: a component that the features of all classes share changes no probability, and stays."""
    centred = (weight - weight.mean(0)).double()
    _, values, used = torch.linalg.svd(centred, full_matrices=False)
    used = used[values > 1e-6 * values[0]]
    spanned = torch.cat([centred[list(ids)], means.double() @ used.T @ used])
    spanned = spanned / spanned.norm(dim=1, keepdim=True).clamp(min=1e-12)
    basis, sizes, _ = torch.linalg.svd(spanned.T, full_matrices=False)
    return basis[:, sizes > 1e-6 * sizes[0]].to(weight.dtype)


@HOOKS.register_module()
class Projection(GradientHook):
    """The class's direction projected out of the last layer and the features before it, in closed form.

    ``unlearn = dict(type='Projection', classes=['car'])``. In the spirit of POUR-P (arXiv 2511.19339), whose projection of a
    collapsed network's features takes one class out and leaves the others' geometry, and of DAMP (arXiv 2604.15166): a cheap
    baseline for every learned method. Needs the forget set alone, without labels: its steps read batches and change nothing, the
    last one projects. The directions are those of :func:`class_directions`; mean features are weighed by the class's probability.

    The last layer, and the last linear layer or convolution before it that writes its features (with the batch norm
    behind it), lose the directions; the class's bias becomes the mean of the others. What reaches the features through a skip
    connection, or is restored by a rectifier, stays; a probe measures it. The papers insert a layer, which a network's
    description cannot contain.
    """

    needs_teacher = uses_retain_set = False
    forget_use = "directions computed from"
    saved = ("sums",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sums: Tensor | None = None  # (forgotten classes, D + 1): features, and the weights' sum last
        self._running: list[LayerCall] = []  # calls since the last layer ran, in order
        self._before: list[LayerCall] = []  # calls of this step before the last layer

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        layer: Any = runner.task.classifier(model)[1]
        if getattr(layer, "weight", None) is None:
            raise UnsupportedModelError(f"the last layer is a {type(layer).__name__} without weight; use type='DELETE'")
        self._restore.append(layer.register_forward_hook(self._add).remove)
        width = layer.weight.shape[1]
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if module is not layer and isinstance(weight, Tensor) and len(weight) == width:
                self._restore.append(module.register_forward_hook(self._note).remove)

    def _note(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            self._running.append((module, args[0], output))

    @torch.no_grad()
    def _add(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        features, mass = args[0].detach().float(), output.detach().float().softmax(1)[:, self.ids]
        axes = [0, *range(2, features.ndim)]
        sums = torch.stack([(features * mass[:, i : i + 1]).sum(axes) for i in range(len(self.ids))])
        sums = torch.cat([sums, mass.sum(axes).unsqueeze(1)], 1).double().cpu()
        all_reduce(sums)
        self.sums = sums if self.sums is None else self.sums + sums
        self._before, self._running = self._running, []

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        return student.float().sum() * 0.0, {}, student.new_tensor(float(len(student)))

    def before_step(self, runner: Run, step: int) -> None:
        self.keep_weights()
        if step == runner.recipe.steps - 1:
            self._project(runner)
        self._before = []

    @torch.no_grad()
    def _project(self, runner: Run) -> None:
        layer: Any = runner.task.classifier(runner.unwrapped_model)[1]
        weight: Tensor = layer.weight
        sums: Tensor = self.sums  # type: ignore[assignment]
        means = (sums[:, :-1] / sums[:, -1:].clamp(min=1e-12)).to(weight.device)
        basis = class_directions(weight.flatten(1).float(), means.float(), self.ids)
        # Class weights without the directions; of a convolution 1x1 the kernel is the last axes.
        weight.copy_(project_out(weight.flatten(1).float(), basis).reshape(weight.shape).to(weight.dtype))
        writer, facts = _writer(self._before), runner.outcome.facts
        if writer is not None:
            multiply_outputs(*writer, projection(basis))
        modules = [layer, *(module for module in writer or () if module is not None)]
        facts.change("projection", modules, directions=basis.shape[1])
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            bias[self.ids] = bias[[i for i in range(len(bias)) if i not in self.ids]].mean()
            facts.change("biases replaced", [layer], classes=len(self.ids))
        if writer is None:
            runner.logger.warning(
                "Projection: no linear layer or convolution, with or without a batch norm, writes the last layer's features, so "
                "only the last layer is projected."
            )


def _writer(calls: Sequence[LayerCall]) -> tuple[nn.Module, BatchNorm | None] | None:
    """Find the last layer before the last one, with its batch norm if that ran after it; None if it cannot be projected."""
    if not calls:
        return None
    last, inputs, _ = calls[-1]
    if _is_linear(last):
        return last, None
    if isinstance(last, BatchNorm) and last.affine and last.running_var is not None and len(calls) > 1:
        before, _, output = calls[-2]
        if _is_linear(before) and output is inputs:
            return before, last
    return None


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and getattr(module, "groups", 1) == 1
