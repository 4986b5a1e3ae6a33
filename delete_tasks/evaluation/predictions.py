"""What models predict: rows of logits and features of samples, or, where a sample has many locations, confusion matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ..audit.linear_probe import FeatureTap
from .functional import ClassCounts, class_counts

ROWS = ("original", "logit_cut", "head_only", "erased", "erased_with_original_head", "retrained")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of samples with one location each.

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


@torch.no_grad()
def predict(
    batches: Iterable[tuple[Tensor, Tensor]], forward: Callable[[Tensor], Tensor], last_layer: nn.Module
) -> Predictions:
    """Run a model, in eval mode, over batches of inputs and labels.

    Args:
        batches: Inputs and int64 labels ``(n,)``.
        forward: Inputs -> logits ``(n, C)``.
        last_layer: What goes into it are the features.
    """
    logits, features, labels = [], [], []
    with FeatureTap(last_layer) as tap:
        for inputs, label in batches:
            logits.append(forward(inputs).float().cpu())
            features.append(None if tap.features is None else tap.features.float().cpu())
            labels.append(label)
    rows = [part for part in features if part is not None and part.ndim == 2]
    whole = torch.cat(rows) if len(rows) == len(features) else None
    return Predictions(torch.cat(logits), whole, torch.cat(labels))


def cut(given: Predictions, ids: Sequence[int]) -> Predictions:
    """The same with the logits of ``ids`` at minus infinity: what hiding looks like."""
    logits = given.logits.clone()
    logits[:, list(ids)] = -torch.inf
    return replace(given, logits=logits)


def through_head(given: Predictions, head: nn.Module) -> Predictions | None:
    """The same features through another last layer; None where there are no rows of features to go through it."""
    if given.features is None:
        return None
    with torch.no_grad():
        return replace(given, logits=head.cpu()(given.features))


def head_is_last(given: Predictions, head: nn.Module) -> bool:
    """Whether the logits are just what the head makes of the features."""
    again = through_head(given, head)
    return again is not None and torch.allclose(again.logits, given.logits, rtol=1e-3, atol=1e-3)


def by_name(given: Predictions, own: Sequence[str], names: Sequence[str]) -> Predictions:
    """Logits of a model with classes ``own`` in the order of ``names``; a class it lacks gets minus infinity."""
    logits = torch.full((len(given.logits), len(names)), -torch.inf)
    column = {name: number for number, name in enumerate(own)}
    known = [number for number, name in enumerate(names) if name in column]
    logits[:, known] = given.logits[:, [column[names[number]] for number in known]]
    return replace(given, logits=logits)


Data = Mapping[str, Predictions]  # by the name of the data


def head_rows(
    found: Mapping[str, Data], ids: Sequence[int], head: nn.Module | None = None, head_only: nn.Module | None = None
) -> dict[str, Data]:
    """All rows of the table, in order, from passes over the data with 'original', 'erased' and perhaps 'retrained'.

    Args:
        found: Predictions of each of those models.
        ids: The forgotten classes.
        head: The original's last layer, where the logits are just what it makes of the features; None makes no row of it.
        head_only: That layer, unlearned alone.
    """
    rows = dict(found)
    rows["logit_cut"] = {name: cut(given, ids) for name, given in found["original"].items()}
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
        """Of the model's own predictions, of those without the forgotten logits, and of further ones."""
        size = (self.classes, self.classes)
        parts = self.sums[:-2].clone().reshape(self.matrices, *size)
        return [LocationCounts(part, int(self.sums[-2]), int(self.sums[-1])) for part in parts]
