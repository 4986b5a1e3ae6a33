"""Relearning: accuracy on the forgotten classes while fine-tuning on a few of their training samples.

As many training samples of other classes are included, since otherwise any network soon predicts the forgotten class everywhere.
The figure is the accuracy on held-out samples of the forgotten classes less the share of the others' predicted as them. Before
the first step each forgotten class's logits are shifted by a constant to the height of the highest other logit: an attacker can
do so in one line, and a network that never saw the class would spend most steps on raising its logit.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...evaluation.metric import Measured, Row
from ...evaluation.predictions import choose, together
from ...evaluation.reader import call
from ...fileio.sampling import evenly_spread
from ..attack import NotMeasured, context_of, features_of, members, predictions_of, reader, share_of
from ..samples import evenly

SAMPLES = 50
HEAD_STEPS = (0, 1, 2, 5, 10, 20, 50)
NETWORK_STEPS = (0, 2, 5, 10, 15, 20, 30, 40)
# Unclipped, the first gradients of a confident network destroy it.
NETWORK_RATE, NETWORK_CLIP = 3e-2, 1.0


def level(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Compute shifts ``(C,)`` that raise the forgotten classes' logits to the highest other one in the mean over training
    samples' logits ``(n, C)``; 0 for other classes. Raise :class:`NotMeasured` if logits are not finite."""
    if not bool(logits.isfinite().all()):
        raise NotMeasured("the model has no logit of the classes to train")
    forgotten = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    forgotten[list(ids)] = True
    highest = logits.masked_fill(forgotten, -torch.inf).amax(1, keepdim=True)
    return (highest - logits).mean(0) * forgotten


def relearn(
    module: nn.Module,
    forward: Callable[[nn.Module, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    test: Tensor,
    ids: Sequence[int],
    rate: float,
    steps: Sequence[int],
    clip: float = float("inf"),
) -> dict[int, Tensor]:
    """Train a copy of a network, or of a last layer, on inputs ``(n, ...)`` and labels ``(n,)`` by SGD with momentum 0.9 and
    gradients clipped to norm ``clip``; return the classes ``(m,)`` of test inputs ``(m, ...)`` after ``steps``, ascending.
    Normalization layers stay in eval mode, since a batch of few classes would distort their statistics."""
    student = copy.deepcopy(module).eval()
    parameters = [p.requires_grad_(True) for p in student.parameters() if p.is_floating_point()]
    device = parameters[0].device
    inputs, labels = train[0].to(device), train[1].to(device)
    with torch.no_grad():
        shift = level(forward(student, inputs), ids)
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    predictions = {}
    for step in range(steps[-1] + 1):
        if step in steps:
            with torch.no_grad():
                outputs = (forward(student, batch.to(device)) + shift for batch in test.split(100))
                predictions[step] = torch.cat([logits.argmax(1).cpu() for logits in outputs])
        if step < steps[-1]:
            optimizer.zero_grad()
            F.cross_entropy(forward(student, inputs) + shift, labels).backward()
            torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
    return predictions


def score_curves(predictions: Mapping[int, Tensor], labels: Tensor, ids: Sequence[int], samples: int) -> Measured:
    """Average hits on forgotten classes over ``predictions`` ``(m,)`` by step (trapezoidal rule), less others predicted so."""
    steps, forgotten = list(predictions), torch.tensor(list(ids))
    mask = torch.isin(labels, forgotten)
    hits = np.stack([(predictions[step][mask] == labels[mask]).double().numpy() for step in steps])
    false = np.array([torch.isin(predictions[step][~mask], forgotten).double().mean().item() for step in steps])
    weights = np.diff(steps) / (steps[-1] - steps[0])
    mean = share_of((weights[:, None] * (hits[1:] + hits[:-1]) / 2).sum(0))
    less = 100 * float((weights * (false[1:] + false[:-1]) / 2).sum())
    curves = {
        name: {str(step): round(100 * float(value), 2) for step, value in zip(steps, values, strict=True)}
        for name, values in (("by_step", hits.mean(1)), ("kept_taken_by_step", false))
    }
    low, high = mean.interval or (0.0, 0.0)
    value, interval = round((mean.value or 0.0) - less, 2), (round(low - less, 4), round(high - less, 4))
    each = None if mean.samples is None else mean.samples - less
    return Measured(value, mean.count, interval, samples=each, details={**curves, "trained_on": samples})


def read_head(row: Row) -> Measured:
    """Measure the accuracy in percent that 50 steps of training the last layer bring back."""
    head = context_of(row).head
    if head is None:
        raise NotMeasured("the logits are not the output of the last layer on the features")
    mask, test = torch.from_numpy(members(row, "test") | members(row, "test", "retain")), row.data["test"]
    chosen = [
        choose(predictions_of(row, split), evenly(torch.from_numpy(members(row, split, which)), SAMPLES))
        for split, which in (("forget", "forget"), ("train", "retain"))
    ]
    train = together(chosen)
    features = torch.from_numpy(features_of(train))
    # One over the mean squared length of a feature, so that a step changes logits by about as much in every model.
    rate = 1 / max(float((features**2).sum(1).mean()), 1e-12)
    queried = torch.from_numpy(features_of(test))[mask]
    predictions = relearn(head, call, (features, train.labels), queried, row.ids, rate, HEAD_STEPS)
    return score_curves(predictions, test.labels[mask], row.ids, len(chosen[0].labels))


def read_network(row: Row) -> Measured:
    """Measure the accuracy in percent that 40 steps of training the whole network bring back."""
    network = context_of(row).network
    if network is None:
        raise NotMeasured("this row has no network of its own, or the task provides none")
    forget, test, beside, kept = (network.inputs[name] for name in ("forget", "test", "beside", "kept"))
    if not len(forget[1]) or not len(test[1]):
        raise NotMeasured("the forget set or the held-out samples show none of the forgotten classes")
    if not len(beside[1]) or not len(kept[1]):
        raise NotMeasured("the training samples or the held-out samples show no kept class")
    chosen = [evenly_spread(len(labels), SAMPLES) for _, labels in (forget, beside)]
    pairs = [(each[0][i], each[1][i]) for each, i in zip((forget, beside), chosen, strict=True)]
    train, queried = ((torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in (pairs, (test, kept)))
    options = (NETWORK_RATE, NETWORK_STEPS, NETWORK_CLIP)
    predictions = relearn(network.module, network.forward, train, queried[0], row.ids, *options)
    return score_curves(predictions, queried[1], row.ids, len(chosen[0]))


TITLE = (
    "forgotten classes' accuracy, less the share of kept classes' samples taken for them, while the {} is fine-tuned on "
    f"{SAMPLES} of their samples and as many others, in the mean over the steps"
)
_attack = partial(reader, level="full")
ATTACKS = (
    _attack("relearn_head", TITLE.format("last layer"), compute=read_head, column="relearning, head"),
    _attack("relearn_network", TITLE.format("network"), compute=read_network, column="relearning, all"),
)
