"""DELETE: distil to the original model with the forgotten classes taken out."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_dist_info
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError
from ..losses.functional import masked_kl_div, masked_mass
from ..losses.masks import class_mask, forgotten_mass, own_label_mask
from ..losses.readout import linear_readout
from ..losses.targets import avoid_classes, fill_surroundings, sees
from ..losses.upsampled import masked_kl_div_upsampled
from ..model.loss_point import LossInputs
from ..request.ranges import number, truth
from ..task import Run
from .base import UnlearnHook


@HOOKS.register_module()
class DELETE(UnlearnHook):
    """Distil to the original with the forgotten classes masked (arXiv 2503.23751).

    ``unlearn = dict(type='DELETE', classes=['car'])``.

    Args:
        teacher_temperature: Divides the teacher's logits; None takes the task's default. A soft target leaves the forgotten
            class its own place between the others, a sharp one (below 1) sends each location to its nearest other class.
        temperature: Divides both logits.
        forgetting_only: Where something is masked, the target is the student's own prediction without it, not the teacher's: of
            the loss's two terms the forgetting term, -log(1 - q_masked), is left there. Locations under an empty mask
            still retain. For forget sets on which the teacher's second choice says little: where an attacker chose the class.
        avoid: Names or ids of classes that must not take the forgotten ones' place: where the original predicts one of those,
            these are taken out of the target, too.
        fill: What does take their place: 'second', the original's next choice there (the paper), or 'surroundings', what it says
            of the places around (models with a map of logits alone), see :func:`delete_tasks.losses.targets.fill_surroundings`.
        balance: Makes rare classes count: a location's weight is the share of its class among the batch's locations, as the
            original predicts it, to the power of -balance (0.5: its inverse square root). 0 weighs all locations alike. Rare
            classes are what few images with many locations lose first.
        readout: Weight of a second loss, :func:`delete_tasks.losses.linear_readout`: how well a linear readout of the features
            before the last layer tells where the teacher sees the forgotten classes. For models with many locations a sample.
        options: See :class:`UnlearnHook`.
    """

    views = "strong"

    def __init__(
        self,
        teacher_temperature: float | None = None,
        temperature: float = 1.0,
        forgetting_only: bool = False,
        readout: float = 0.0,
        avoid: Sequence[str | int] | str = (),
        fill: str = "second",
        balance: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.request = replace(self.request, avoid=[avoid] if isinstance(avoid, (str, int)) else avoid, fill=fill)
        self.avoid, self.fill = self.request.avoid, self.request.fill
        self.avoid_ids: list[int] = []
        self.balance = number("unlearn.balance", balance, 0, 1)
        self.teacher_temperature = (
            None
            if teacher_temperature is None
            else number("unlearn.teacher_temperature", teacher_temperature, 1e-6, 1e6)
        )
        self.temperature = number("unlearn.temperature", temperature, 1e-3, 1000)
        self.forgetting_only = truth("unlearn.forgetting_only", forgetting_only)
        self.readout = number("unlearn.readout", readout, 0, 1e6)
        self._features: Tensor | None = None
        self._features_read = False

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        self.avoid_ids = self.request.resolve_avoid(runner.selection.class_names)
        if self.teacher_temperature is None:
            self.teacher_temperature = runner.task.recipes.teacher_temperature
        if self.reads_features:
            layer = runner.task.classifier(model)[1]
            self._restore.append(layer.register_forward_pre_hook(self._keep_features).remove)

    @property
    def reads_features(self) -> bool:
        """Whether :meth:`feature_losses` is called, with what goes into the last layer."""
        return self.readout > 0

    def _keep_features(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._features = args[0]

    def target(self, teacher: Tensor) -> Tensor:
        return fill_surroundings(teacher, self.ids, self.avoid_ids) if self.fill == "surroundings" else teacher

    def _weight(self, inputs: LossInputs, teacher: Tensor | None) -> Tensor | None:
        weight = super()._weight(inputs, teacher)
        if not self.balance or teacher is None:
            return weight
        return balanced(inputs.classes(teacher), teacher.shape[1], weight, self.balance)

    def resizes(self, logits: Tensor, inputs: LossInputs) -> bool:
        upsample = inputs.upsample
        if upsample is None or not upsample.pays_in_one(logits):
            return False
        # What these compute is not linear in the logits, so it needs each location's own.
        return not (self.forgetting_only or self.avoid_ids or self._own_masses())

    def _own_masses(self) -> bool:
        """Return True if the stop rule needs other masses than the loss gives: a flattened teacher gives each class little, so
        the student could never fall far below it; nor below itself."""
        flattened = self.teacher_temperature is not None and self.teacher_temperature > 1
        return self.stop_ratio is not None and (flattened or self.forgetting_only)

    def extra_losses(self, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> dict[str, Tensor]:
        features, self._features = self._features, None
        if features is None:  # not the head whose features are read
            return {}
        self._features_read = True
        return self.feature_losses(features, teacher, inputs, weight)

    def feature_losses(
        self, features: Tensor, teacher: Tensor, inputs: LossInputs, weight: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of what goes into the last layer.

        Args:
            features: ``(N, d, *locations)``, whose locations may be fewer than those of the labels.
            teacher, inputs, weight: See :meth:`extra_losses`.
        """
        if not self.readout:
            return {}
        if features.ndim < 3:
            raise RequestError(
                "unlearn.readout compares places that show the class with others, and this model has one place a sample; leave "
                "readout out"
            )
        # At the features' own size, so that nothing of the logits' size is made.
        size = features.shape[2:]
        mass = forgotten_mass(inputs.nearest(teacher.float(), size), self.ids)
        explained = linear_readout(features, mass, nearest_weight(weight, size), total=_sum_over_processes)
        return {"loss_readout": self.readout * share_of_process(explained)}

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.reads_features and not self._features_read:
            name = runner.task.classifier(runner.unwrapped_model)[0]
            raise RequestError(
                f"{'unlearn.readout' if self.readout else type(self).__name__} reads what goes into '{name}', and this model "
                "does not run it; use type='DELETE' without readout"
            )

    def location_loss(
        self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        classes = student.shape[1]
        if self.request.masking == "own":
            if inputs.labels is None:
                raise RequestError("masking='own' masks each location's own label, and this data has none")
            mask = own_label_mask(inputs.labels, self.ids, classes)
        else:
            mask = class_mask(self.ids, classes, student.ndim, student.device)
        if inputs.retain is not None:
            mask = mask & ~inputs.retain.unsqueeze(1)
        teacher_temperature = 1.0 if self.teacher_temperature is None else self.teacher_temperature
        target = teacher
        if self.forgetting_only:
            target = torch.where(
                mask.any(1, keepdim=True), student.detach().to(teacher.dtype) * teacher_temperature, teacher
            )
        if self.avoid_ids:
            seen = sees(teacher, self.ids)
            if inputs.retain is not None:
                seen = seen & ~inputs.retain
            target = avoid_classes(target, seen, self.avoid_ids)
        divergence: Any = masked_kl_div
        if inputs.upsample is not None and not inputs.is_at_labels(student):
            resize = inputs.upsample
            divergence = partial(masked_kl_div_upsampled, size=resize.size, align_corners=resize.align_corners)
        loss, terms = divergence(
            student,
            target,
            mask=mask,
            weight=weight,
            reduction="sum",
            temperature=self.temperature,
            teacher_temperature=teacher_temperature,
            return_terms=True,
        )
        student_mass, teacher_mass = terms.student_mass, terms.teacher_mass
        if self._own_masses():
            was, now = (masked_mass(logits.detach() / self.temperature, mask) for logits in (teacher, student))
            share = was if weight is None else was * weight
            student_mass, teacher_mass = (share * now).sum(), (share * was).sum()
        self._watch(student_mass, teacher_mass)
        logs = {"forgetting_term": terms.forgetting_term, "retention_term": terms.retention_term}
        return loss, logs, terms.weight


def balanced(labels: Tensor, classes: int, weight: Tensor | None, exponent: float) -> Tensor:
    """Weights of locations, of mean 1, that fall with the share of their class.

    Args:
        labels: int64 ``(N, *locations)``, which class a location has.
        classes: C.
        weight: ``(N, *locations)``, 0 where a location does not take part; None for all ones.
        exponent: A weight is the class's share of the locations of all processes, at least a thousandth, to the power of minus
            this.
    """
    counted = torch.ones(1, device=labels.device) if weight is None else weight.flatten()
    shares = torch.bincount(labels.flatten(), counted.expand(labels.numel()), minlength=classes).double()
    shares = _sum_over_processes(shares)
    shares /= shares.sum().clamp(min=1)
    by_class = shares.clamp(min=1e-3) ** -exponent
    found = (by_class / (by_class * shares).sum().clamp(min=1e-12)).float()[labels]
    return found if weight is None else found * weight


def nearest_weight(weight: Tensor | None, size: Sequence[int]) -> Tensor | None:
    """Weights ``(N, *locations)`` at the places next to those of a map of ``size``."""
    return None if weight is None else F.interpolate(weight.unsqueeze(1), size, mode="nearest-exact").squeeze(1)


def share_of_process(value: Tensor) -> Tensor:
    """Scale the gradient of a loss over all processes' samples to this process's share: DistributedDataParallel takes the
    mean."""
    return value.detach() + get_dist_info()[1] * (value - value.detach())


def _sum_over_processes(value: Tensor) -> Tensor:
    all_reduce(value)
    return value
