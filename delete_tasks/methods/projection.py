"""Projection: the class's direction is taken out of the last layer and of what the layer before it writes, in closed form."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import UnsupportedModelError
from ..model.loss_point import LossInputs
from ..model.projection import project_out, project_outputs
from ..task import Run
from .gradients import GradientHook

BatchNorm = nn.modules.batchnorm._BatchNorm


def class_directions(weight: Tensor, means: Tensor, ids: Sequence[int]) -> Tensor:
    """Compute an orthonormal basis ``(D, at most 2 len(ids))`` of the directions that tell the classes ``ids`` from others.

    For each class it spans its row, less the mean of all rows, and the part of its mean feature that the centred rows see: what
    all classes' features have in common moves no probability, and stays.

    Args:
        weight: Of the last layer, ``(C, D)``.
        means: Of the classes' features, ``(len(ids), D)``.
        ids: Classes.
    """
    rows = (weight - weight.mean(0)).double()
    _, values, seen = torch.linalg.svd(rows, full_matrices=False)
    seen = seen[values > 1e-6 * values[0]]
    spanned = torch.cat([rows[list(ids)], means.double() @ seen.T @ seen])
    spanned = spanned / spanned.norm(dim=1, keepdim=True).clamp(min=1e-12)
    basis, sizes, _ = torch.linalg.svd(spanned.T, full_matrices=False)
    return basis[:, sizes > 1e-6 * sizes[0]].to(weight.dtype)


@HOOKS.register_module()
class Projection(GradientHook):
    """The class's direction taken out of the last layer and the features before it, in closed form.

    ``unlearn = dict(type='Projection', classes=['car'])``. In the spirit of POUR-P (arXiv 2511.19339), whose projection of a
    collapsed network's features takes one class out and leaves the others' geometry, and of DAMP (arXiv 2604.15166): the cheap
    row that every learned method has to beat. Needs the forget set alone, and no labels: its steps read batches and change
    nothing, the last one projects. The directions are those of :func:`class_directions`; mean features weigh each location
    by the probability of the class there.

    The last layer, and the last linear layer or convolution before it that writes its features (with the batch norm
    behind it), lose the directions; the class's bias becomes the others' mean. What reaches the features on another way (a skip
    connection), and what a rectifier makes anew, stays: a probe tells how much. The papers insert a layer, which a network's
    description has no place for.

    Args:
        options: See :class:`UnlearnHook`.
    """

    needs_teacher = False
    uses_retain_set = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sums: Tensor | None = None  # (forgotten classes, D + 1): features, and the weights' sum last
        self._before: list[tuple[nn.Module, Tensor, Tensor]] = []  # those of the step that ran before the last layer
        self._written: list[
            tuple[nn.Module, Tensor, Tensor]
        ] = []  # layers in the order in which they run: input, output

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        layer: Any = runner.task.classifier(model)[1]
        if getattr(layer, "weight", None) is None:
            raise UnsupportedModelError(
                f"the last layer is a {type(layer).__name__} without a weight; use type='DELETE'"
            )
        self._restore.append(layer.register_forward_hook(self._add).remove)
        width = layer.weight.shape[1]
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if module is not layer and isinstance(weight, Tensor) and len(weight) == width:
                self._restore.append(module.register_forward_hook(partial(self._note, layer)).remove)

    def _note(self, last: nn.Module, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            self._written.append((module, args[0], output))

    @torch.no_grad()
    def _add(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        features, rows = args[0].detach().float(), output.detach().float().softmax(1)[:, self.ids]
        axes = [0, *range(2, features.ndim)]
        sums = torch.stack([(features * rows[:, i : i + 1]).sum(axes) for i in range(len(self.ids))])
        sums = torch.cat([sums, rows.sum(axes).unsqueeze(1)], 1).double().cpu()
        all_reduce(sums)
        self.sums = sums if self.sums is None else self.sums + sums
        self._before = list(self._written)
        self._written.clear()

    def location_loss(
        self, student: Tensor, teacher: Tensor | None, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
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
        # Rows read the features without the directions; of a convolution 1x1 the maps are its last axes.
        weight.copy_(project_out(weight.flatten(1).float(), basis).reshape(weight.shape).to(weight.dtype))
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            kept = [i for i in range(len(bias)) if i not in self.ids]
            bias[self.ids] = bias[kept].mean()
        writer = _writer(self._before)
        if writer is None:
            runner.logger.warning(
                "Projection: no linear layer or convolution writes the last layer's features (a norm that it cannot be folded "
                "through does, or none of their width), so the last layer alone is projected."
            )
            return
        project_outputs(*writer, basis)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sums": self.sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.sums = state["sums"]


def _writer(ran: Sequence[tuple[nn.Module, Tensor, Tensor]]) -> tuple[nn.Module, BatchNorm | None] | None:
    """Find the last layer that ran, with its batch norm if that came last; None if neither can be projected."""
    if not ran:
        return None
    last, given, _ = ran[-1]
    if _is_linear(last):
        return last, None
    if isinstance(last, BatchNorm) and last.affine and last.running_var is not None and len(ran) > 1:
        before, _, output = ran[-2]
        if _is_linear(before) and output is given:
            return before, last
    return None


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and getattr(module, "groups", 1) == 1
