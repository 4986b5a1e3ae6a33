"""Attacks: ways to read a forgotten class from a model, or to measure what else unlearning changed."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluation.functional import Interval, wilson
from ..evaluation.metric import Measured, Metric, NotMeasured, Row
from ..evaluation.predictions import Predictions

DRAWS = 500  # bootstrap repetitions
LEVELS = ("quick", "full")
GROUPS = {  # of the table, in order
    "readers": "Read by attacks: percent of the forgotten classes' samples; lower is better",
    "outputs": "Outputs for the forgotten classes' samples",
    "kept": "Other changes",
}
SPLITS = {
    "forget": "training samples of the forgotten classes",
    "train": "labelled training samples of all classes",
    "test": "held-out samples",
    "train_regions": "labelled training pixels",
    "test_regions": "held-out pixels",
}


@dataclass(frozen=True, eq=False)
class Network:
    """Model that an attack runs, by ``forward``, ``(module, inputs) -> logits (N, C)`` with gradients, and trains. ``inputs`` are
    inputs ``(N, ...)`` and labels ``(N,)``, empty if there are none: 'forget' and 'test' of the forgotten classes; 'beside'
    (training) and 'kept' (held-out) of the others."""

    module: nn.Module
    forward: Callable[[nn.Module, Tensor], Tensor]
    inputs: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Context:
    """Inputs of attacks besides a model's predictions, None or empty if unknown. ``retrained`` are the predictions by split of
    each model that never saw the classes, perhaps this one among them."""

    head: nn.Module | None = None  # the last layer, if the logits are its output on the features
    original_head: nn.Module | None = None
    retrained: Sequence[Mapping[str, Any]] = ()
    network: Network | None = None


@dataclass(frozen=True)
class Attack(Metric):
    """Metric of an audit, listed in ``ATTACKS`` of a module of :mod:`delete_tasks.audit.attacks`."""

    source: str = ""  # the paper, if any
    level: str = "quick"  # the lowest that runs it, one of LEVELS
    needs: str | None = None  # split without which the attack does not apply and is left out
    group: str = "outputs"  # part of the table, a key of GROUPS
    directed: bool = True  # False if neither a lower nor a higher figure is better
    # Name of the figure as a share of the way from the retrained models to the original, 1 - depth; None prints the figure.
    ratio: str | None = None

    def why(self, reason: NotMeasured) -> str:
        """Return the reason as the attack states it."""
        return str(reason)

    def json(self) -> dict[str, Any]:
        """Return the declaration in audit.json."""
        return {**super().json(), "source": self.source, "level": self.level, "reads": self.reads, "group": self.group}


# Attack that reads the class from held-out samples.
reader = functools.partial(Attack, unit="percent", of="held-out samples", reads=True, group="readers")


def context_of(row: Row) -> Context:
    """Return the context of a row's model, empty if there is none."""
    return row.data.get("context") or Context()


def predictions_of(row: Row, split: str) -> Predictions:
    """Return the predictions of a split; raise :class:`NotMeasured` if there are none."""
    predictions = row.data.get(split)
    if predictions is None:
        raise NotMeasured(f"no {SPLITS[split]} were given")
    return predictions


def original_test(row: Row) -> Predictions:
    """Return the original's predictions of the held-out samples; raise :class:`NotMeasured` if it or the row has none."""
    predictions_of(row, "test")
    original = (row.original or {}).get("test")
    if original is None:
        raise NotMeasured("the original is not there any more")
    return original


def features_of(predictions: Predictions, layer: str = "last") -> NDArray[np.float32]:
    """Return features ``(N, d)``: the last layer's input ('last') or the stage 'before' it; raise NotMeasured without any."""
    if layer == "last":
        if predictions.features is None:
            raise NotMeasured("there are no features: the last layer's input is not one vector per sample")
        return predictions.features.numpy()
    stages = list(predictions.layers.values())
    if len(stages) < 2:
        raise NotMeasured("features of the stage before the last are not known")
    return stages[-2].numpy()


def members(row: Row, split: str, which: str = "forget") -> NDArray[np.bool_]:
    """Mark the samples of a split with a forgotten ('forget') or another ('retain') label; raise NotMeasured without any."""
    labels = predictions_of(row, split).labels.numpy()
    forgotten = np.isin(labels, list(row.ids))
    matches = forgotten if which == "forget" else (labels >= 0) & ~forgotten
    if not matches.any():
        raise NotMeasured(f"the {SPLITS[split]} show no {'forgotten' if which == 'forget' else 'kept'} class")
    return matches


def samples_of(row: Row, split: str, layer: str = "last") -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features ``(n, d)`` and labels ``(n,)``: the attacker's of all classes ('train'), or the forgotten classes'
    held-out ones ('test'); raise NotMeasured without forgotten or, to train on, other classes."""
    mask = members(row, split)
    if split == "train":
        mask |= members(row, split, "retain")
    return features_of(row.data[split], layer)[mask], row.data[split].labels.numpy()[mask]


def chance_of_classes(row: Row) -> float | None:
    """Return the percentage that a guess among the attacker's classes gets right."""
    try:
        _, labels = samples_of(row, "train")
    except NotMeasured:
        return None
    return round(100 / len(np.unique(labels)), 2)


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], count: int, draws: int = DRAWS) -> Interval | None:
    """Compute the 95% interval of a statistic of ``count`` indices drawn with replacement, alike for every model."""
    generator = np.random.default_rng(0)
    values = np.array([statistic(generator.integers(0, count, count)) for _ in range(draws)])
    values = values[~np.isnan(values)]
    if len(values) < draws / 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


@functools.lru_cache(maxsize=4)
def _weights(count: int) -> NDArray[np.float32]:
    """Return each sample's share of a bootstrap draw, ``(draws, count)``; a draw's shares add up to 1."""
    generator = np.random.default_rng(0)
    return (generator.multinomial(count, np.full(count, 1 / count), DRAWS) / count).astype(np.float32)


def resampled_means(*samples: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return bootstrap means ``(draws,)`` of figures ``(count,)``, with the same draws for all."""
    weights = _weights(len(samples[0]))
    return [np.asarray(weights @ values, np.float64) for values in samples]


def interval_of_mean(samples: NDArray[np.float64]) -> Interval:
    """Compute the 95% bootstrap interval of the mean of ``(count,)`` figures."""
    low, high = np.percentile(resampled_means(samples)[0], [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def mean_of(samples: NDArray[Any], digits: int = 4, **rest: Any) -> Measured:
    """Average a figure of each sample, with a bootstrap interval."""
    values = np.asarray(samples, np.float64)
    return Measured(round(float(values.mean()), digits), len(values), interval_of_mean(values), samples=values, **rest)


def share_of(hits: NDArray[Any], **rest: Any) -> Measured:
    """Compute the percentage of hits with a bootstrap interval; Wilson's if all or none are, since a bootstrap's has no width."""
    share = mean_of(100 * np.asarray(hits, np.float64), 2, **rest)
    if share.interval is not None and share.interval[0] == share.interval[1]:
        return replace(share, interval=wilson(share.value, share.count))
    return share
