"""Have the predictions on the forget set changed? A check without labels, at the end of each run.

A run can go through all its steps and forget nothing: a learning rate that is too small, a mask that takes nothing out. Its
model must not be published as one that has forgotten.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..errors import UnsupportedModelError
from ..evaluation.functional import percent
from ..evaluation.metrics import MOST_STILL
from ..fileio.processes import together
from ..fileio.seeds import CHECK_STREAM, seed_all
from ..losses.masks import forgotten_mass, is_forgotten
from ..model.loss_point import LossInputs, LossPoint, swap
from ..model.modes import in_eval_mode
from ..task import Run, Task

SAMPLES, BATCHES = 256, 8  # read at most, by each process
# Of the locations at which the original predicts what is to be forgotten, the share that has to be predicted as something else
# (or of the probability, where the original predicts it nowhere). A ResNet-20 that only distils to itself: 0.5% in 150 steps.
LEAST_CHANGE = 0.05


class ForgetCheckHook(Hook):
    """Comparison of predictions on the forget set before and after the run; a model that has not changed is withheld."""

    priority = 80  # after hooks that judge a model by figures of their own, before it is published

    def after_train(self, runner: Run) -> None:
        check = runner.outcome.forget_check = check_forgotten(runner)
        if not check["passed"] and runner.outcome.withheld is None:
            runner.outcome.withheld = why_not(check, runner.recipe)


def check_forgotten(runner: Run) -> dict[str, Any]:
    """Compare the student's predictions with the original's on the first samples of the forget set, as the run reads them.

    Locations are those that take part in the loss: no padding, no retain set. Labels are not looked at. All processes call
    this; each reads a part.

    Returns:
        ``samples`` and ``locations`` that were looked at; percent of the locations that are predicted as forgotten, ``before``
        and ``after``; percent of those predicted so before that still are (``still``, None if there were none); percent of
        all locations whose prediction is another one (``changed``); mean probability of the forgotten classes,
        ``probability_before`` and ``probability_after``; ``passed``.
    """
    sums = _own_sums(runner)
    all_reduce(sums)
    samples, locations, before, after, still, changed, mass_before, mass_after = sums.tolist()
    left = still / before if before else mass_after / mass_before if mass_before else 1.0
    return {
        "samples": int(samples),
        "locations": int(locations),
        "before": percent(before, locations),
        "after": percent(after, locations),
        "still": percent(still, before),
        "changed": percent(changed, locations),
        "probability_before": mass_before / locations if locations else None,
        "probability_after": mass_after / locations if locations else None,
        "passed": left <= 1 - LEAST_CHANGE,
    }


@together
def _own_sums(runner: Run) -> Tensor:
    """Samples and :func:`_sums` of this process's part."""
    sums = torch.zeros(8, dtype=torch.float64)
    networks = (runner.teacher, runner.unwrapped_model)
    with in_eval_mode(*networks):
        for batch, size in _batches(runner):
            inputs = runner.unwrapped_model.data_preprocessor(batch, True)
            original, student = (predictions(runner.task, network, inputs) for network in networks)
            sums += torch.cat([torch.tensor([size]), _sums(original, student, runner.selection.forget_ids).cpu()])
    return sums


def why_not(found: dict[str, Any], recipe: Any) -> str:
    """Why a model that did not pass is not published."""
    if found["still"] is None:
        what = "the original predicts the classes nowhere, and their probability has not fallen"
    else:
        what = f"{found['still']:g}% of what the original assigns to the forgotten classes is still assigned to them"
    advice = _more(recipe.steps, recipe.optimizer)
    return f"it has forgotten nothing: on {found['samples']} samples of the forget set, {what}. {advice}"


def not_forgotten(found: Mapping[str, Any] | None, steps: int, optimizer: Mapping[str, Any]) -> str | None:
    """Describe a run that changed something but left more than :data:`MOST_STILL`; None for all others.
    ``found`` is what :func:`check_forgotten` gives, or None."""
    if found is None or found.get("still") is None or found["still"] <= MOST_STILL:
        return None
    return (
        f"NOT FORGOTTEN: after training, {found['still']:.1f}% of what the original assigns to the forgotten classes, on "
        f"{found['samples']} samples of the forget set, is still assigned to them. {_more(steps, optimizer)}"
    )


def _more(steps: int, optimizer: Mapping[str, Any]) -> str:
    return f"Take more steps than {steps}, or a higher learning rate than {optimizer.get('lr')}"


def predictions(task: Task, network: nn.Module, inputs: Any) -> LossInputs:
    """Compute the inputs of the loss of the network's predicting head, without gradients."""
    caught: list[tuple[LossPoint, LossInputs]] = []
    undo = [swap(point, partial(_catch, caught, point)) for point in task.loss_points(network)]
    try:
        with torch.no_grad():
            if isinstance(inputs, dict):
                network(**inputs, mode="loss")
            else:
                network(*inputs, mode="loss")
    finally:
        for put_back in reversed(undo):
            put_back()
    return caught[_predicting(task, network, [point for point, _ in caught])][1]


def _catch(
    caught: list[tuple[LossPoint, LossInputs]], point: LossPoint, *args: Any, **kwargs: Any
) -> dict[str, Tensor]:
    caught.append((point, point.read(*args, **kwargs)))
    return {}


def _predicting(task: Task, network: nn.Module, points: list[LossPoint]) -> int:
    """Find the head that holds the predicting layer."""
    if len(points) > 1:
        try:
            classifier = task.classifier(network)[1]
        except UnsupportedModelError:
            return 0
        for number, point in enumerate(points):
            if any(module is classifier for module in point.module.modules()):
                return number
    return 0


def _batches(runner: Run) -> Iterator[tuple[Any, int]]:
    loader = runner.train_dataloader
    rank, world = get_dist_info()
    most = min(len(loader.dataset), world * min(SAMPLES, BATCHES * loader.batch_size))
    places = range(rank, most, world)
    for first in range(0, len(places), loader.batch_size):
        chosen = places[first : first + loader.batch_size]
        items = [loader.dataset[place] for place in chosen]
        seed_all(runner.seed, CHECK_STREAM, first, rank)
        yield loader.collate_fn(items), len(chosen)


def _sums(original: LossInputs, student: LossInputs, ids: Sequence[int]) -> Tensor:
    """Over locations: all; predicted as forgotten before, after, both times; another prediction; probabilities before, after."""
    then, now = (found.at_labels(found.logits[0]).float() for found in (original, student))
    taking_part = torch.ones(then.shape[:1] + then.shape[2:], dtype=torch.bool, device=then.device)
    if student.valid is not None:
        taking_part &= student.valid
    if student.retain is not None:
        taking_part &= ~student.retain
    was, now_is = then.argmax(1), now.argmax(1)
    before, after = (is_forgotten(found, ids) & taking_part for found in (was, now_is))
    masses = [(forgotten_mass(logits, ids) * taking_part).sum() for logits in (then, now)]
    counts = [part.sum() for part in (taking_part, before, after, before & after, (was != now_is) & taking_part)]
    return torch.stack([value.double() for value in (*counts, *masses)])
