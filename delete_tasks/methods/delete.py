"""DELETE: distil to the original model with the forgotten classes masked."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import RequestError
from ..losses.bernoulli import masked_bernoulli_kl
from ..losses.features import feature_distillation, linear_readout
from ..losses.functional import masked_kl_div, masked_kl_div_upsampled, masked_mass
from ..losses.masks import class_mask, forgotten_mass, is_forgotten, own_label_mask
from ..losses.targets import SECOND, avoid_classes, fill_surroundings, move_mass
from ..model.facts import Facts
from ..model.loss_point import LossInputs
from ..model.teacher import step_back
from ..request.classes import as_list
from ..request.ranges import number, truth
from ..task import Run
from .accumulation import of_all_processes, share_of_process, sum_over_processes
from .base import LossSums, UnlearnHook
from .guard import RetentionGuard

ACTIVATIONS = ("softmax", "sigmoid")
TEACHER_FEATURES = "features"  # key under which they are caught and cached beside the teacher's outputs


@HOOKS.register_module()
class DELETE(UnlearnHook):
    """Distil to the original with the forgotten classes masked (arXiv 2503.23751).

    ``unlearn = dict(type='DELETE', classes=['car'])``.

    Args:
        teacher_temperature: Divisor of the teacher's logits; None takes the task's default. A soft target leaves the forgotten
            class a region between the others, a sharp one (below 1) assigns each location to its nearest other class.
        temperature: Divisor of both logits.
        forgetting_only: At masked locations the target is the student's own prediction without the masked classes, not the
            teacher's: only the forgetting term of the loss, -log(1 - q_masked), remains there. Locations under an empty mask
            still retain. For forget sets on which the teacher's second choice is uninformative, as an attacker chose the class.
        avoid: Names or ids of classes that must not replace the forgotten ones: they are removed from the target as well
            at locations that the original assigns to a forgotten class.
        fill: Replacement of the forgotten classes: 'second', the original's next choice at the location (the paper),
            'surroundings', its prediction for the places around (only models with a map of logits), see
            :func:`delete_tasks.losses.targets.fill_surroundings`, or 'auto', the next choice among the classes around, with a
            weight of 0.3 for any other; without a map it is 'second'.
        into: Name or id of the class that takes the place of the forgotten ones, without ``fill``: their probability is added to
            its own where the original predicts one of them, see :func:`delete_tasks.losses.targets.move_mass`.
        balance: Exponent of class weights: a location's weight is the share of its class among the batch's locations, as the
            original predicts it, to the power of -balance (0.5: inverse square root). 0 weighs all locations alike. With few
            images, rare classes are otherwise lost first.
        readout: Weight of a second loss, :func:`delete_tasks.losses.linear_readout`: how well a linear readout of the features
            before the last layer predicts the teacher's probability of the forgotten classes. For maps of logits.
        feature_distillation: Weight of a loss, :func:`delete_tasks.losses.feature_distillation`, that keeps the features of
            a retain set's samples where the original has them. For models with one place a sample.
        guard: Least share, from 0 to 1, of the original's sure predictions of remaining classes that the model must share over
            ten steps, see :class:`delete_tasks.methods.guard.RetentionGuard`. Below it the weights are set back to the
            original's and the run goes on at a third of the rate. 0 never does, as is needed with ``norm_eval=False``.
        activation: 'softmax', or 'sigmoid' for classes that do not exclude each other: the scores of the forgotten ones have the
            target 0, each of the others its own, see :func:`delete_tasks.losses.bernoulli.masked_bernoulli_kl`.
        step_back: Share of the way, 0 to below 1, that the weights go back to the original's after the last step. It keeps more
            of the other classes, and of the forgotten ones: ``images evaluate --frontier`` measures how much.
        options: See :class:`UnlearnHook`.
    """

    views = "strong"
    saved: ClassVar[Sequence[str]] = ("stepped_back_at", "fill")  # fill: as the first step resolved it

    def __init__(
        self,
        teacher_temperature: float | None = None,
        temperature: float = 1.0,
        forgetting_only: bool = False,
        readout: float = 0.0,
        feature_distillation: float = 0.0,
        avoid: Sequence[str | int] | str = (),
        fill: str = "auto",
        into: str | int | None = None,
        balance: float = 0.0,
        guard: float = 0.0,
        step_back: float = 0.0,
        activation: str = "softmax",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if activation not in ACTIVATIONS:
            raise RequestError(f"unlearn.activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        if activation == "sigmoid":  # which no choice among classes fits
            chosen = {"into": into, "avoid": avoid, "readout": readout, "forgetting_only": forgetting_only}
            chosen |= {"temperature": temperature != 1, "teacher_temperature": teacher_temperature not in (None, 1)}
            if type(self) is not DELETE or any(chosen.values()):
                unfit = ", ".join(name for name, value in chosen.items() if value) or f"type={type(self).__name__!r}"
                raise RequestError(f"activation='sigmoid' is an option of DELETE, without {unfit}: leave that out")
            guard, fill = 0.0, "second"
        self.guard, self.retention = number("unlearn.guard", guard, 0, 1), RetentionGuard()
        if self.guard and not self.norm_eval:  # batches of the forget set alone have other statistics at once
            raise RequestError("guard compares predictions with running statistics; with norm_eval=False give guard=0")
        self.step_back = number("unlearn.step_back", step_back, 0, 1, below=True)
        # Step after which the weights went back, since the state that is saved then has gone back.
        self.stepped_back_at = -1
        self.request = replace(self.request, avoid=as_list(avoid), fill=fill, into=into)
        self.avoid, self.into = self.request.avoid, into
        self.fill: str | None = fill if into is None else None  # as results.json and the record say
        self.avoid_ids: list[int] = []
        self.into_id: int | None = None
        self.balance = number("unlearn.balance", balance, 0, 1)
        self.teacher_temperature = teacher_temperature
        if teacher_temperature is not None:
            self.teacher_temperature = number("unlearn.teacher_temperature", teacher_temperature, 1e-6, 1e6)
        self.temperature = number("unlearn.temperature", temperature, 1e-3, 1000)
        self.forgetting_only = truth("unlearn.forgetting_only", forgetting_only)
        if forgetting_only and into is not None:
            raise RequestError("forgetting_only takes its target from the model itself; leave it out, or into")
        self.readout = number("unlearn.readout", readout, 0, 1e6)
        self.feature_distillation = number("unlearn.feature_distillation", feature_distillation, 0, 1e6)
        self._features_read = False

    def prepare(self, runner: Run, model: nn.Module) -> None:
        super().prepare(runner, model)
        names = runner.selection.class_names
        self.avoid_ids, self.into_id = self.request.resolve_avoid(names), self.request.resolve_into(names)
        if self.teacher_temperature is None:
            self.teacher_temperature = runner.task.recipes.teacher_temperature
        if self.reads_features:
            layer = runner.task.classifier(model)[1]
            self._restore.append(layer.register_forward_pre_hook(self._keep_features).remove)
        if self.feature_distillation:
            layer = runner.task.classifier(runner.teacher)[1]
            self._restore.append(layer.register_forward_pre_hook(self._keep_teacher_features).remove)

    def _keep_teacher_features(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._caught.setdefault(TEACHER_FEATURES, deque()).append(args[0])

    @property
    def reads_features(self) -> bool:
        """True if :meth:`feature_losses` is called with the input of the last layer."""
        return self.readout > 0 or self.feature_distillation > 0

    def retained(self, inputs: LossInputs) -> Tensor | None:
        """Select the locations where nothing is masked, as :attr:`LossInputs.retain`."""
        return inputs.retain

    def target(self, teacher: Tensor, inputs: LossInputs) -> Tensor:
        if self.into_id is not None:
            return move_mass(teacher, self.ids, self.into_id, self.retained(inputs))
        if self.fill == "auto" and teacher.ndim != 4:
            self.fill = "second"  # as results.json and the record say
        if self.fill == "second":
            return teacher
        valid = nearest_weight(None if inputs.valid is None else inputs.valid.float(), teacher.shape[2:])
        return fill_surroundings(teacher, self.ids, self.avoid_ids, SECOND if self.fill == "auto" else 0.0, valid)

    def _weight(self, inputs: LossInputs, teacher: Tensor | None) -> Tensor | None:
        weight = super()._weight(inputs, teacher)
        if not self.balance or teacher is None:
            return weight
        return balanced(inputs.classes(teacher), teacher.shape[1], weight, self.balance)

    def resizes(self, logits: Tensor, inputs: LossInputs) -> bool:
        upsample = inputs.upsample
        if upsample is None or self.activation == "sigmoid" or not upsample.pays_in_one(logits):
            return False
        # These targets are not linear in the logits, so they need logits at each location.
        return not (self.forgetting_only or self.avoid_ids or self._needs_masses())

    def _needs_masses(self) -> bool:
        """Return True if the stop rule needs masses that the loss does not compute: a flattened teacher gives every class so
        little that their ratio stays high, and with ``forgetting_only`` the student is its own target."""
        flattened = self.teacher_temperature is not None and self.teacher_temperature > 1
        return self.stop_ratio is not None and (flattened or self.forgetting_only)

    def extra_losses(self, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> dict[str, Tensor]:
        features, self._features = self._features, None
        if features is None:  # another head
            return {}
        self._features_read = True
        return self.feature_losses(features, teacher, inputs, weight)

    def feature_losses(
        self, features: Tensor, teacher: Tensor, inputs: LossInputs, weight: Tensor | None
    ) -> dict[str, Tensor]:
        """Compute losses of the last layer's input, ``(N, d, *locations)``, perhaps smaller; else as :meth:`extra_losses`."""
        losses = self.readout_losses(features, teacher, inputs, weight)
        if self.feature_distillation:
            original = self._caught[TEACHER_FEATURES].popleft()
            if inputs.retain is None or features.ndim != 2:
                raise RequestError(
                    "unlearn.feature_distillation of DELETE keeps features of a retain set's samples, of models with one place a "
                    "sample, and here is neither; leave it out, or use type='DeepDELETE'"
                )
            gathered = (of_all_processes(part) for part in (features, original, inputs.retain.float()))
            losses["loss_moved"] = self.feature_distillation * share_of_process(feature_distillation(*gathered))
        return losses

    def readout_losses(
        self, features: Tensor, teacher: Tensor, inputs: LossInputs, weight: Tensor | None
    ) -> dict[str, Tensor]:
        """Compute the loss of :attr:`readout`, if it has a weight; arguments as of :meth:`feature_losses`."""
        if not self.readout:
            return {}
        if features.ndim < 3:
            raise RequestError(
                "unlearn.readout compares locations of a map, and this model has one place a sample; leave readout out"
            )
        size = features.shape[2:]  # the features' resolution: no tensor of the logits' full size is needed
        mass = forgotten_mass(inputs.nearest(teacher.float(), size), self.ids)
        explained = linear_readout(features, mass, nearest_weight(weight, size), total=sum_over_processes)
        return {"loss_readout": self.readout * share_of_process(explained)}

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.reads_features and not self._features_read:
            name = runner.task.classifier(runner.unwrapped_model)[0]
            raise RequestError(
                f"{'unlearn.readout' if self.readout else type(self).__name__} reads the input of '{name}', and this model "
                "does not run it; use type='DELETE' without readout"
            )
        if self.guard and not (batch_idx + 1) % runner.accumulation:
            agreement = self.retention.end_step()
            if agreement is not None and agreement < self.guard:
                self.retention.restart(runner, self.step + 1, agreement)

    def after_train(self, runner: Run) -> None:
        super().after_train(runner)
        if self.step_back and self.stepped_back_at != runner.iter:
            step_back(runner.unwrapped_model, runner.teacher, self.step_back)
            self.stepped_back_at = runner.iter

    def own_facts(self, facts: Facts) -> dict[str, Any]:
        own = {"restarts": self.retention.restarts, "step_back": self.step_back}
        return {**super().own_facts(facts), **{name: fact for name, fact in own.items() if fact}}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "retention": self.retention.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.retention.restore(state["retention"])

    def location_loss(self, student: Tensor, teacher: Any, inputs: LossInputs, weight: Tensor | None) -> LossSums:
        classes = student.shape[1]
        if self.guard:
            self.retention.compare(student, teacher, self.ids)
        if self.request.masking == "own":
            if inputs.labels is None:
                raise RequestError("masking='own' masks each location's own label, and this data has none")
            mask = own_label_mask(inputs.labels, self.ids, classes)
        else:
            mask = class_mask(self.ids, classes, student.ndim, student.device)
        retain = self.retained(inputs)
        if retain is not None:
            mask = mask & ~retain.unsqueeze(1)
        if self.activation == "sigmoid":
            bernoulli = masked_bernoulli_kl(student, teacher, mask, weight=weight, reduction="sum", return_terms=True)
            before, now = ((logits.detach().sigmoid() * mask).amax(1) for logits in (teacher, student))
            self._watch((before * now).sum(), (before * before).sum())
            forgetting, retention, count = bernoulli[1]
            return bernoulli[0], {"forgetting_term": forgetting, "retention_term": retention}, count
        teacher_temperature = self.teacher_temperature or 1.0
        target = teacher
        if self.forgetting_only:
            prediction = student.detach().to(teacher.dtype) * teacher_temperature
            target = torch.where(mask.any(1, keepdim=True), prediction, teacher)
        if self.avoid_ids:
            seen = is_forgotten(teacher.argmax(1), self.ids)
            if retain is not None:
                seen = seen & ~retain
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
        if self._needs_masses():
            before, now = (masked_mass(logits.detach() / self.temperature, mask) for logits in (teacher, student))
            share = before if weight is None else before * weight
            student_mass, teacher_mass = (share * now).sum(), (share * before).sum()
        self._watch(student_mass, teacher_mass)
        return loss, {"forgetting_term": terms.forgetting_term, "retention_term": terms.retention_term}, terms.weight


def balanced(labels: Tensor, classes: int, weight: Tensor | None, exponent: float) -> Tensor:
    """Weigh locations with int64 ``labels`` ``(N, *locations)`` by the share of their class among the locations of all processes,
    at least a thousandth, to the power of ``-exponent``, with mean 1; ``weight`` 0 leaves a location out."""
    counted = torch.ones(1, device=labels.device) if weight is None else weight.flatten()
    shares = torch.bincount(labels.flatten(), counted.expand(labels.numel()), minlength=classes).double()
    shares = sum_over_processes(shares)
    shares /= shares.sum().clamp(min=1)
    by_class = shares.clamp(min=1e-3) ** -exponent
    balance = (by_class / (by_class * shares).sum().clamp(min=1e-12)).float()[labels]
    return balance if weight is None else balance * weight


def nearest_weight(weight: Tensor | None, size: Sequence[int]) -> Tensor | None:
    """Sample weights ``(N, *locations)`` at the nearest places of a map of ``size``."""
    return None if weight is None else F.interpolate(weight.unsqueeze(1), size, mode="nearest-exact").squeeze(1)
