"""Relearning: what a few steps of fine-tuning on some of the forgotten classes' training samples bring back.

As many training samples of kept classes are among them, else any network soon calls everything so. What counts is the accuracy on
held-out samples of the forgotten classes less the share of the kept classes' that are taken for them.

Before the first step the forgotten classes' logits are raised (or lowered), each by a constant, to the height of the highest of
the others. How far below it one stands tells nothing of what a network knows, and an attacker sets it in one line: a network that
never saw a class has learned to put it far below, and would spend most of its steps on coming up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...evaluation.metric import Measured, Row
from ...evaluation.predictions import choose, together
from ...fileio.sampling import evenly_spread
from ..attack import Attack, Found, NotMeasured, context_of, given, members, share_of
from ..samples import evenly

SAMPLES = 50
HEAD_STEPS = (0, 1, 2, 5, 10, 20, 50)
NETWORK_STEPS = (0, 2, 5, 10, 15, 20, 30, 40)
# Without a limit the first gradients of a network that is sure of itself break it.
NETWORK_RATE, NETWORK_CLIP = 3e-2, 1.0


def predictions_by_step(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    predict: Callable[[], Tensor],
    rate: float,
    steps: Sequence[int],
    clip: float = float("inf"),
) -> dict[int, Tensor]:
    """Train by SGD with momentum 0.9, and see what is predicted after some steps.

    Args:
        parameters: What is trained.
        loss: Of the training samples, with gradients.
        predict: Classes ``(m,)`` of the test samples.
        rate: Of learning.
        steps: Ascending; 0 is before the first.
        clip: The gradient's largest norm.
    """
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    found = {}
    for step in range(steps[-1] + 1):
        if step in steps:
            with torch.no_grad():
                found[step] = predict().cpu()
        if step < steps[-1]:
            optimizer.zero_grad()
            loss().backward()
            torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
    return found


def level(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """What to add to each logit, so that those of the forgotten classes stand as high as the highest of the others.

    Args:
        logits: ``(n, C)`` of the training samples, as many of the forgotten classes as of the others.
        ids: The forgotten classes.

    Returns:
        ``(C,)``, 0 for kept classes; of a forgotten one the mean over the samples.

    Raises:
        NotMeasured: Logits are not finite.
    """
    if not bool(logits.isfinite().all()):
        raise NotMeasured("the model has no logit of the classes to train")
    gone = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    gone[list(ids)] = True
    highest = logits.masked_fill(gone, -torch.inf).amax(1, keepdim=True)
    return (highest - logits).mean(0) * gone


def relearn_head(
    head: nn.Module,
    train: tuple[Tensor, Tensor],
    test: Tensor,
    ids: Sequence[int],
    steps: Sequence[int] = HEAD_STEPS,
) -> dict[int, Tensor]:
    """What a last layer predicts of test features after steps of training it on a few samples of the forgotten classes.

    The rate is one over the mean squared length of a feature, so that a step moves each sample's logits by about as much in every
    model.

    Args:
        head: Left as it is.
        train: Features ``(n, d)`` and labels ``(n,)``.
        test: Features ``(m, d)``.
        ids: The forgotten classes.
        steps: Ascending.

    Returns:
        Classes ``(m,)`` by step.
    """
    layer = copy.deepcopy(head).cpu().float()
    for parameter in layer.parameters():
        parameter.requires_grad_(True)
    rate = 1 / max(float((train[0] ** 2).sum(1).mean()), 1e-12)
    with torch.no_grad():
        raised = level(layer(train[0]), ids)
    return predictions_by_step(
        list(layer.parameters()),
        lambda: F.cross_entropy(layer(train[0]) + raised, train[1]),
        lambda: (layer(test) + raised).argmax(1),
        rate,
        steps,
    )


def relearn_network(
    module: nn.Module,
    forward: Callable[[nn.Module, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    test: Tensor,
    ids: Sequence[int],
    steps: Sequence[int] = NETWORK_STEPS,
) -> dict[int, Tensor]:
    """The same of a whole network; norms stay in eval mode, since a batch of one class would spoil their statistics.

    Args:
        module: Left as it is.
        forward: See :class:`delete_tasks.audit.attack.Network`.
        train: Inputs ``(n, ...)`` and labels ``(n,)``.
        test: Inputs ``(m, ...)``.
        ids: The forgotten classes.
        steps: Ascending.
    """
    student = copy.deepcopy(module).eval()
    parameters = [p.requires_grad_(True) for p in student.parameters() if p.is_floating_point()]
    device = parameters[0].device
    inputs, labels = train[0].to(device), train[1].to(device)
    with torch.no_grad():
        raised = level(forward(student, inputs), ids)

    def logits(given: Tensor) -> Tensor:
        return forward(student, given) + raised

    def predict() -> Tensor:
        return torch.cat([logits(part.to(device)).argmax(1).cpu() for part in test.split(100)])

    def loss() -> Tensor:
        return F.cross_entropy(logits(inputs), labels)

    return predictions_by_step(parameters, loss, predict, NETWORK_RATE, steps, NETWORK_CLIP)


def told(found: Mapping[int, Tensor], labels: Tensor, ids: Sequence[int], samples: int) -> Found:
    """The mean over steps, each of which weighs as the stretch that it ends, and the curves.

    Args:
        found: Classes ``(m,)`` by step.
        labels: ``(m,)``, of forgotten and of kept classes.
        ids: The forgotten ones.
        samples: How many of the forgotten classes were trained on.
    """
    steps, gone = list(found), torch.tensor(list(ids))
    own = torch.isin(labels, gone)
    hits = np.stack([(found[step][own] == labels[own]).double().numpy() for step in steps])
    false = np.array([torch.isin(found[step][~own], gone).double().mean().item() for step in steps])
    weights = np.diff(steps) / (steps[-1] - steps[0])
    mean = share_of((weights[:, None] * (hits[1:] + hits[:-1]) / 2).sum(0))
    less = 100 * float((weights * (false[1:] + false[:-1]) / 2).sum())
    curves = {
        name: {str(step): round(100 * float(value), 2) for step, value in zip(steps, values, strict=True)}
        for name, values in (("by_step", hits.mean(1)), ("kept_taken_by_step", false))
    }
    low, high = mean.interval or (0.0, 0.0)
    return Found(
        round((mean.value or 0.0) - less, 2),
        mean.count,
        (round(low - less, 4), round(high - less, 4)),
        samples=None if mean.samples is None else mean.samples - less,
        details={**curves, "trained_on": samples},
    )


def read_head(row: Row) -> Measured:
    """What 50 steps of training the last layer bring back, in percent."""
    head = context_of(row).head
    if head is None:
        raise NotMeasured("the logits are not just what the last layer makes of the features")
    forget, test = given(row, "forget"), given(row, "test")
    if forget.features is None or test.features is None:
        raise NotMeasured("the last layer reads no rows of features")
    asked = torch.from_numpy(members(row, "test") | members(row, "test", "retain"))
    chosen = [
        choose(found, evenly(torch.from_numpy(shown), SAMPLES))
        for found, shown in (
            (forget, members(row, "forget")),
            (given(row, "train"), members(row, "train", "retain")),
        )
    ]
    used = together(chosen)
    if used.features is None:
        raise NotMeasured("the last layer reads no rows of features")
    found = relearn_head(head, (used.features, used.labels), test.features[asked], row.ids)
    return told(found, test.labels[asked], row.ids, len(chosen[0].labels))


def read_network(row: Row) -> Measured:
    """What 40 steps of training the whole network bring back, in percent."""
    network = context_of(row).network
    if network is None:
        raise NotMeasured("this row is no network of its own, or the task gives none to train")
    forget, test, beside, kept = (network.inputs[name] for name in ("forget", "test", "beside", "kept"))
    if not len(forget[1]) or not len(test[1]):
        raise NotMeasured("the forget set or the held-out samples show none of the forgotten classes")
    if not len(beside[1]) or not len(kept[1]):
        raise NotMeasured("the training samples or the held-out samples show no kept class")
    chosen = [evenly_spread(len(labels), SAMPLES) for _, labels in (forget, beside)]
    parts = [(part[0][own], part[1][own]) for part, own in zip((forget, beside), chosen, strict=True)]
    train, asked = ((torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in (parts, (test, kept)))
    found = relearn_network(network.module, network.forward, train, asked[0], row.ids)
    return told(found, asked[1], row.ids, len(chosen[0]))


def _attack(name: str, title: str, compute: object, column: str) -> Attack:
    return Attack(
        name,
        f"forgotten classes' accuracy, less the share of kept classes' samples taken for them, while {title} on {SAMPLES} of "
        "their samples and as many others, in the mean over the steps",
        "percent",
        compute,  # type: ignore[arg-type]
        of="held-out samples",
        column=column,
        level="full",
        reads=True,
    )


ATTACKS = (
    _attack("relearn_head", "the last layer is fine-tuned", read_head, "relearning, head"),
    _attack("relearn_network", "the network is fine-tuned", read_network, "relearning, all"),
)
