"""Predictions of models: logits and features of samples or, for samples of many locations, confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from .functional import ClassCounts, class_counts

ROWS = ("original", "logit_cut", "head_only", "erased", "erased_with_original_head", "retrained")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for samples with one location each.

    Attributes:
        logits: float32 ``(N, C)``.
        features: float32 ``(N, d)``, the last layer's input; None where that is no row of features.
        labels: int64 ``(N,)``; -1 where there is none.
        layers: float32 ``(N, d)`` of each stage, in order of computation, by its layer's name; empty where nobody asked.
    """

    logits: Tensor
    features: Tensor | None
    labels: Tensor
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def predicted(self) -> Tensor:
        """int64 ``(N,)``."""
        return self.logits.argmax(1)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Label and prediction of each sample that has a label."""
        known = self.labels >= 0
        return self.labels[known], self.predicted[known]

    @cached_property
    def counts(self) -> ClassCounts:
        """Of labelled samples by class."""
        return class_counts(*self.labelled, self.logits.shape[1])


def together(parts: Sequence[Predictions]) -> Predictions:
    """Join the predictions for several samples, one after another; features and stages only where all have them."""
    features = [part.features for part in parts if part.features is not None]
    layers = set.intersection(*(set(part.layers) for part in parts))
    return Predictions(
        torch.cat([part.logits for part in parts]),
        torch.cat(features) if len(features) == len(parts) else None,
        torch.cat([part.labels for part in parts]),
        {name: torch.cat([part.layers[name] for part in parts]) for name in parts[0].layers if name in layers},
    )


def choose(given: Predictions, samples: Tensor) -> Predictions:
    """Select the predictions for some samples: indices, or booleans ``(N,)``."""
    return Predictions(
        given.logits[samples],
        None if given.features is None else given.features[samples],
        given.labels[samples],
        {name: value[samples] for name, value in given.layers.items()},
    )


def cut(given: Predictions, ids: Sequence[int]) -> Predictions:
    """Cut the logits of ``ids`` to minus infinity, which is hiding."""
    logits = given.logits.clone()
    logits[:, list(ids)] = -torch.inf
    return replace(given, logits=logits)


def through_head(given: Predictions, head: nn.Module) -> Predictions | None:
    """Apply another last layer to the features; None if there are no features."""
    if given.features is None:
        return None
    with torch.no_grad():
        return replace(given, logits=head.cpu()(given.features))


def head_is_last(given: Predictions, head: nn.Module) -> bool:
    """Return True if the logits are the head's output for the features."""
    again = through_head(given, head)
    return again is not None and torch.allclose(again.logits, given.logits, rtol=1e-3, atol=1e-3)


def by_name(given: Predictions, own: Sequence[str], names: Sequence[str]) -> Predictions:
    """Reorder the logits of a model with classes ``own`` to ``names``; a class that it lacks gets minus infinity."""
    logits = torch.full((len(given.logits), len(names)), -torch.inf)
    column = {name: number for number, name in enumerate(own)}
    known = [number for number, name in enumerate(names) if name in column]
    logits[:, known] = given.logits[:, [column[names[number]] for number in known]]
    return replace(given, logits=logits)


Data = Mapping[str, Predictions]  # by the name of the data


def head_rows(
    found: Mapping[str, Data], head: nn.Module | None = None, head_only: nn.Module | None = None
) -> dict[str, Data]:
    """Add the rows of the table that differ from another in the last layer alone, and put all in order.

    Args:
        found: Predictions by row, see :meth:`delete_tasks.evaluation.opened.Opened.rows`.
        head: The original's last layer, where the logits are just what it makes of the features; None makes no row of it.
        head_only: That layer, unlearned alone.
    """
    rows = dict(found)
    for row, source, layer in (
        ("head_only", "original", head_only),
        ("erased_with_original_head", "erased", head),
    ):
        if layer is not None:
            through = {name: through_head(given, layer) for name, given in found[source].items()}
            rows[row] = {name: given for name, given in through.items() if given is not None}
    return {row: rows[row] for row in ROWS if row in rows}


@dataclass(frozen=True, eq=False)
class LocationCounts:
    """Predictions at the labelled locations of all samples.

    Attributes:
        confusion: int64 ``(C, C)``, labels x predictions.
        samples: How many were seen.
        showing: On how many of them labels show a forgotten class.
    """

    confusion: Tensor
    samples: int
    showing: int


class ConfusionState:
    """Predictions of samples with many locations, as they come: confusion matrices are kept, and nothing of a sample.

    Args:
        classes: C.
        ids: The forgotten classes.
        ignored: Labels of locations that do not count.
        more: Most further predictions, beside the model's own and those with the logits of ``ids`` cut off.

    Attributes:
        sums: int64; add those of several processes up.
    """

    def __init__(self, classes: int, ids: Sequence[int], ignored: Sequence[int] = (), more: int = 0) -> None:
        self.classes, self.ids, self.matrices = classes, list(ids), 2 + more
        self.ignored = torch.tensor(list(ignored), dtype=torch.long)
        self.sums = torch.zeros(self.matrices * classes**2 + 2, dtype=torch.int64)

    def update(
        self, logits: Tensor, labels: Tensor, predicted: Tensor | None = None, more: Sequence[Tensor] = ()
    ) -> None:
        """Add one sample.

        Args:
            logits: ``(C, *locations)``; changed where a forgotten class is predicted.
            labels: ``(*locations)``, integers.
            predicted: ``(*locations)``; None takes the largest logit.
            more: Further predictions, of as many kinds as there are matrices for, or fewer.
        """
        predicted = logits.argmax(0) if predicted is None else predicted
        hidden = torch.isin(predicted, torch.tensor(self.ids, device=predicted.device))
        rest = logits[:, hidden]
        rest[self.ids] = -torch.inf
        without = predicted.clone()
        without[hidden] = rest.argmax(0)
        labels = labels.cpu()
        counts = ~torch.isin(labels, self.ignored)
        labels = labels[counts].long()
        pairs = [labels * self.classes + each.cpu()[counts].long() for each in (predicted, without, *more)]
        matrices = [torch.bincount(each, minlength=self.classes**2) for each in pairs]
        matrices += [torch.zeros_like(matrices[0])] * (self.matrices - len(matrices))
        showing = torch.isin(labels, torch.tensor(self.ids)).any()
        self.sums += torch.cat([*matrices, torch.tensor([1, int(showing)])])

    def compute(self) -> list[LocationCounts]:
        """Compute the counts of the model's own predictions, of those without the forgotten logits, and of further ones."""
        size = (self.classes, self.classes)
        parts = self.sums[:-2].clone().reshape(self.matrices, *size)
        return [LocationCounts(part, int(self.sums[-2]), int(self.sums[-1])) for part in parts]
