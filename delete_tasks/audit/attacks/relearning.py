"""Relearning: accuracy on the forgotten classes against steps of fine-tuning on a few of their training samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...evaluation.metric import Measured, Row
from ..attack import Attack, Found, NotMeasured, context_of, given, members, share_of

SAMPLES = 50
HEAD_STEPS = (0, 1, 2, 5, 10, 20, 50)
NETWORK_STEPS = (0, 1, 2, 5, 10, 20)
NETWORK_RATE = 1e-2  # of SGD with momentum 0.9: what fine-tuning usually starts with
MOST_TESTED = 200


def accuracy_by_step(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    hits: Callable[[], Tensor],
    rate: float,
    steps: Sequence[int],
) -> dict[int, Tensor]:
    """Train by SGD with momentum 0.9, and see what is right after some steps.

    Args:
        parameters: What is trained.
        loss: Of the training samples, with gradients.
        hits: Booleans ``(n,)``, which test samples are predicted right.
        rate: Of learning.
        steps: Ascending; 0 is before the first.
    """
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    found = {}
    for step in range(steps[-1] + 1):
        if step in steps:
            with torch.no_grad():
                found[step] = hits().cpu()
        if step < steps[-1]:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    return found


def relearn_head(
    head: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], steps: Sequence[int] = HEAD_STEPS
) -> dict[int, Tensor]:
    """Which test features a last layer predicts right after steps of training it on a few samples of the forgotten classes.

    The rate is one over the mean squared length of a feature, so that a step moves each sample's logits by about as much in every
    model.

    Args:
        head: Left as it is.
        train: Features ``(n, d)`` and labels ``(n,)``.
        test: The same.
        steps: Ascending.

    Returns:
        Booleans ``(m,)`` by step.
    """
    layer = copy.deepcopy(head).cpu().float()
    for parameter in layer.parameters():
        parameter.requires_grad_(True)
    rate = 1 / max(float((train[0] ** 2).sum(1).mean()), 1e-12)
    return accuracy_by_step(
        list(layer.parameters()),
        lambda: F.cross_entropy(layer(train[0]), train[1]),
        lambda: layer(test[0]).argmax(1) == test[1],
        rate,
        steps,
    )


def relearn_network(
    module: nn.Module,
    forward: Callable[[nn.Module, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    steps: Sequence[int] = NETWORK_STEPS,
) -> dict[int, Tensor]:
    """The same of a whole network; norms stay in eval mode, since a batch of one class would spoil their statistics.

    Args:
        module: Left as it is.
        forward: See :class:`delete_tasks.audit.attack.Network`.
        train, test: Inputs and labels.
        steps: Ascending.
    """
    student = copy.deepcopy(module).eval()
    parameters = [p.requires_grad_(True) for p in student.parameters() if p.is_floating_point()]
    device = parameters[0].device
    inputs, labels = train[0].to(device), train[1].to(device)

    def hits() -> Tensor:
        return torch.cat([forward(student, part.to(device)).argmax(1).cpu() for part in test[0].split(100)]) == test[1]

    loss = lambda: F.cross_entropy(forward(student, inputs), labels)  # noqa: E731
    return accuracy_by_step(parameters, loss, hits, NETWORK_RATE, steps)


def _spread(shown: Any, most: int) -> Tensor:
    places = np.flatnonzero(shown)
    return torch.from_numpy(places[np.linspace(0, len(places), min(most, len(places)), endpoint=False).astype(int)])


def _told(found: dict[int, Tensor], samples: int) -> Found:
    """The mean over steps (each weighs as the stretch it ends), and the curve."""
    steps = list(found)
    weights = np.diff(steps) / (steps[-1] - steps[0])
    hits = np.stack([found[step].double().numpy() for step in steps])
    mean = (weights[:, None] * (hits[1:] + hits[:-1]) / 2).sum(0)
    curve = {str(step): round(100 * float(value.double().mean()), 2) for step, value in found.items()}
    return share_of(mean, details={"by_step": curve, "trained_on": samples})


def read_head(row: Row) -> Measured:
    """Mean accuracy in percent on held-out samples of the forgotten classes over 50 steps of training the last layer."""
    head = context_of(row).head
    if head is None:
        raise NotMeasured("the logits are not just what the last layer makes of the features")
    forget, test = given(row, "forget"), given(row, "test")
    if forget.features is None or test.features is None:
        raise NotMeasured("the last layer reads no rows of features")
    chosen, asked = _spread(members(row, "forget"), SAMPLES), torch.from_numpy(np.flatnonzero(members(row, "test")))
    train = forget.features[chosen], forget.labels[chosen]
    return _told(relearn_head(head, train, (test.features[asked], test.labels[asked])), len(chosen))


def read_network(row: Row) -> Measured:
    """The same over 20 steps of training the whole network."""
    network = context_of(row).network
    if network is None:
        raise NotMeasured("this row is no network of its own, or the task gives none to train")
    (inputs, labels), (asked, own) = (network.inputs[split] for split in ("forget", "test"))
    if not len(labels) or not len(own):
        raise NotMeasured("the forget set or the held-out samples show none of the forgotten classes")
    train = inputs[:SAMPLES], labels[:SAMPLES]
    device = next(network.module.parameters()).device
    with torch.no_grad():
        start = network.forward(network.module, train[0][:1].to(device))
    if not bool(start.isfinite().all()):
        raise NotMeasured("the model has no logit of the classes to train")
    test = asked[:MOST_TESTED], own[:MOST_TESTED]
    return _told(relearn_network(network.module, network.forward, train, test), len(train[0]))


def _attack(name: str, title: str, compute: object, column: str) -> Attack:
    return Attack(
        name,
        f"forgotten classes' accuracy while {title} on {SAMPLES} of their samples, in the mean over the steps",
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
