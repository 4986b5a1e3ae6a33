"""An attack: one way to read a forgotten class out of a model, or to find what else forgetting it changed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluation.intervals import Interval, wilson
from ..evaluation.metric import Measured, Metric, NotMeasured, Row
from ..evaluation.predictions import Predictions

DRAWS = 500  # of a bootstrap
LEVELS = ("quick", "full")
SPLITS = {
    "forget": "training samples of the forgotten classes",
    "train": "labelled training samples of all classes",
    "test": "held-out samples",
}


@dataclass(frozen=True, eq=False)
class Found(Measured):
    """What an attack found.

    Attributes:
        details: More of it as JSON, e.g. a curve.
        samples: float64 ``(count,)``, of which ``value`` is the mean: two models' are of the same samples.
    """

    details: Mapping[str, Any] | None = None
    samples: NDArray[np.float64] | None = field(default=None, repr=False)

    def json(self) -> dict[str, Any]:
        """As audit.json holds it."""
        known = super().json()
        return known if self.details is None else {**known, "details": dict(self.details)}


@dataclass(frozen=True, eq=False)
class Network:
    """A model that can be run and trained, for attacks that rows of features are not enough for.

    Attributes:
        module: It.
        forward: ``(module, inputs) -> logits (N, C)``, with gradients.
        inputs: Inputs ``(N, ...)`` and labels ``(N,)``: 'forget' and 'test' of the forgotten classes; of the others, 'beside'
            training samples and 'kept' held-out ones, none where there are no such data.
        scale: What the range of an input's values is divided by when they are prepared, broadcastable to an input: how much 1.0
            of the range is in ``inputs``.
    """

    module: nn.Module
    forward: Callable[[nn.Module, Tensor], Tensor]
    inputs: Mapping[str, tuple[Tensor, Tensor]]
    scale: Tensor


@dataclass(frozen=True, eq=False)
class Context:
    """What an attack may need beside a model's own rows, each None or empty where it is not known.

    Attributes:
        head: The last layer, where the logits are just what it makes of the features.
        original_head: The original's.
        retrained: Rows by the name of the data, of each model that never saw the classes.
        is_retrained: This model is one of them.
        network: The model itself.
        original_network: The original itself.
    """

    head: nn.Module | None = None
    original_head: nn.Module | None = None
    retrained: Sequence[Mapping[str, Any]] = ()
    is_retrained: bool = False
    network: Network | None = None
    original_network: Network | None = None


@dataclass(frozen=True)
class Attack(Metric):
    """A metric of an audit. One stands in a module of :mod:`delete_tasks.audit.attacks`, in its ``ATTACKS``, and is found there.

    Attributes:
        source: The paper, if there is one.
        level: 'quick' or 'full', the first that runs it.
        reads: It reads the class, so it has a depth and takes part in the verdict. Else it tells of outputs or damage.
        chance: What it reads of a model that knows nothing; None where nobody can say.
    """

    source: str = ""
    level: str = "quick"
    reads: bool = False
    chance: Callable[[Row], float | None] | None = None

    def why(self, reason: NotMeasured) -> str:
        """What the attack says of it."""
        return str(reason)

    def json(self) -> dict[str, Any]:
        """As audit.json declares it."""
        return {**super().json(), "source": self.source, "level": self.level, "reads": self.reads}


def context_of(row: Row) -> Context:
    """What is known beside the row itself."""
    return row.data.get("context") or Context()


def given(row: Row, split: str) -> Predictions:
    """The rows of a split.

    Raises:
        NotMeasured: There are none.
    """
    found = row.data.get(split)
    if found is None:
        raise NotMeasured(f"no {SPLITS[split]} were given")
    return found


def features_of(found: Predictions, layer: str = "last") -> NDArray[np.float32]:
    """Features ``(N, d)`` of the last layer's input, or of the stage before it.

    Args:
        found: Of a split.
        layer: 'last' or 'before'.

    Raises:
        NotMeasured: The model has none.
    """
    if layer == "last":
        if found.features is None:
            raise NotMeasured("the last layer reads no rows of features")
        return found.features.numpy()
    stages = list(found.layers.values())
    if len(stages) < 2:
        raise NotMeasured("features of the stage before the last are not known")
    return stages[-2].numpy()


def members(row: Row, split: str, which: str = "forget") -> NDArray[np.bool_]:
    """Which samples of a split are labelled with a class that is forgotten ('forget') or kept ('retain').

    Raises:
        NotMeasured: None is.
    """
    labels = given(row, split).labels.numpy()
    shown = np.isin(labels, list(row.ids)) if which == "forget" else (labels >= 0) & ~np.isin(labels, list(row.ids))
    if not shown.any():
        raise NotMeasured(f"the {SPLITS[split]} show no {'forgotten' if which == 'forget' else 'kept'} class")
    return shown


def attacker_rows(row: Row, layer: str = "last") -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Labelled features ``(n, d)`` and labels ``(n,)`` of all classes that an attacker trains on.

    Raises:
        NotMeasured: They show no forgotten class beside another.
    """
    train = given(row, "train")
    members(row, "train"), members(row, "train", "retain")
    known = train.labels.numpy() >= 0
    return features_of(train, layer)[known], train.labels.numpy()[known]


def chance_of_classes(row: Row) -> float | None:
    """Percent that a guess among the attacker's classes gets right."""
    try:
        _, labels = attacker_rows(row)
    except NotMeasured:
        return None
    return round(100 / len(np.unique(labels)), 2)


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], count: int, draws: int = DRAWS) -> Interval | None:
    """95% interval of a statistic over resampled samples, the same draws for every model.

    Args:
        statistic: Of ``count`` indices of samples, drawn with replacement; NaN where they do not tell.
        count: Samples.
        draws: Repetitions.
    """
    generator = np.random.default_rng(0)
    values = np.array([statistic(generator.integers(0, count, count)) for _ in range(draws)])
    values = values[~np.isnan(values)]
    if len(values) < draws / 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


@functools.lru_cache(maxsize=4)
def _weights(count: int) -> NDArray[np.float32]:
    """How often each of ``count`` samples is drawn, as a share of all draws: ``(draws, count)``, rows of sum 1."""
    generator = np.random.default_rng(0)
    return (generator.multinomial(count, np.full(count, 1 / count), DRAWS) / count).astype(np.float32)


def resampled_means(*samples: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Means ``(draws,)`` of figures ``(count,)`` over resampled samples, of which each draw is the same for all."""
    weights = _weights(len(samples[0]))
    return [np.asarray(weights @ one, np.float64) for one in samples]


def interval_of_mean(samples: NDArray[np.float64]) -> Interval:
    """95% bootstrap interval of the mean of ``(count,)`` figures."""
    low, high = np.percentile(resampled_means(samples)[0], [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def mean_of(samples: NDArray[Any], digits: int = 4, **rest: Any) -> Found:
    """The mean of a figure of each sample, with its bootstrap interval."""
    values = np.asarray(samples, np.float64)
    return Found(round(float(values.mean()), digits), len(values), interval_of_mean(values), samples=values, **rest)


def share_of(hits: NDArray[Any], **rest: Any) -> Found:
    """Percent of samples that were read, with its bootstrap interval; Wilson's where all or none were, and a bootstrap's has no
    width."""
    found = mean_of(100 * np.asarray(hits, np.float64), 2, **rest)
    if found.interval is not None and found.interval[0] == found.interval[1]:
        return Found(found.value, found.count, wilson(found.value, found.count), samples=found.samples, **rest)
    return found
