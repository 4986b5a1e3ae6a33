"""Predictions of models: logits and features of samples or, for samples with many locations, confusion matrices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from .functional import ClassCounts

ROWS = ("original", "logit_cut", "head_only", "erased", "erased_with_original_head", "retrained")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for samples with one location each, or for a batch of samples with many."""

    logits: Tensor  # float32 (N, C, *locations), on the CPU
    # Input of the last layer, float32 (N, d) or (N, d, *locations); None if that layer was not run, or if samples have one
    # location, and the input is not one vector for each.
    features: Tensor | None
    labels: Tensor  # int64 (N, *locations); -1 for a location without a label
    # Mean of a stage's map, float32 (N, d), by the name of its layer, in order of computation.
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def predicted(self) -> Tensor:
        """Predicted class of each sample, int64 ``(N,)``."""
        return self.logits.argmax(1)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Labels and predictions of the samples with a label."""
        labelled = self.labels >= 0
        return self.labels[labelled], self.predicted[labelled]

    @cached_property
    def counts(self) -> ClassCounts:
        """Counts of labelled samples by class."""
        labels, predicted = self.labelled
        parts = (labels[predicted == labels], labels, predicted)
        return ClassCounts(*(torch.bincount(part, minlength=self.logits.shape[1]) for part in parts))


def together(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate predictions for several samples, with the features and stages that all have."""
    features = [part.features for part in parts if part.features is not None]
    layers = set.intersection(*(set(part.layers) for part in parts))
    return Predictions(
        torch.cat([part.logits for part in parts]),
        torch.cat(features) if len(features) == len(parts) else None,
        torch.cat([part.labels for part in parts]),
        {name: torch.cat([part.layers[name] for part in parts]) for name in parts[0].layers if name in layers},
    )


def choose(predictions: Predictions, samples: Tensor) -> Predictions:
    """Select the predictions for some samples: indices, or booleans ``(N,)``."""
    features = None if predictions.features is None else predictions.features[samples]
    layers = {name: value[samples] for name, value in predictions.layers.items()}
    return Predictions(predictions.logits[samples], features, predictions.labels[samples], layers)


def cut(predictions: Predictions, ids: Sequence[int]) -> Predictions:
    """Set the logits of ``ids`` to minus infinity, which hides the classes."""
    logits = predictions.logits.clone()
    logits[:, list(ids)] = -torch.inf
    return replace(predictions, logits=logits)


def through_head(predictions: Predictions, head: nn.Module) -> Predictions | None:
    """Apply another last layer to the features; None if there are no features."""
    if predictions.features is None:
        return None
    with torch.no_grad():
        return replace(predictions, logits=head.cpu()(predictions.features))


def head_is_last(predictions: Predictions, head: nn.Module) -> bool:
    """Return True if the logits are the head's output for the features."""
    again = through_head(predictions, head)
    return again is not None and torch.allclose(again.logits, predictions.logits, rtol=1e-3, atol=1e-3)


def by_name(predictions: Predictions, classes: Sequence[str], names: Sequence[str]) -> Predictions:
    """Reorder the logits of a model's ``classes`` to ``names``; a name that the model lacks gets minus infinity."""
    logits = torch.full((len(predictions.logits), len(names)), -torch.inf)
    column = {name: i for i, name in enumerate(classes)}
    common = [i for i, name in enumerate(names) if name in column]
    logits[:, common] = predictions.logits[:, [column[names[i]] for i in common]]
    return replace(predictions, logits=logits)


Data = Mapping[str, Predictions]  # by the name of the data


def head_rows(
    rows: Mapping[str, Data], head: nn.Module | None = None, head_only: nn.Module | None = None
) -> dict[str, Data]:
    """Add the rows that differ in the last layer only to ``rows``, and sort them. ``head`` is the original's last layer, if the
    logits are its output for the features; ``head_only`` is that layer after unlearning it alone."""
    rows = dict(rows)
    for row, source, layer in (("head_only", "original", head_only), ("erased_with_original_head", "erased", head)):
        if layer is not None:
            outputs = {name: through_head(predictions, layer) for name, predictions in rows[source].items()}
            rows[row] = {name: output for name, output in outputs.items() if output is not None}
    return {row: rows[row] for row in ROWS if row in rows}


@dataclass(frozen=True, eq=False)
class LocationCounts:
    """Predictions at the labelled locations of all ``samples``, ``showing`` of which have a label of a forgotten class:
    ``confusion``, int64 ``(C, C)``, labels x predictions (without labels: the original's predictions x predictions), and sums of
    what the task ``compared`` with the original's predictions, None without them."""

    confusion: Tensor
    samples: int
    showing: int
    compared: tuple[int, int] | None = None
    labelled: bool = True


Compare = Callable[[Tensor, Tensor, Sequence[int], int], tuple[int, int]]


class ConfusionState:
    """Running confusion matrices of samples with many locations, for C ``classes``, ``ids`` of them forgotten. The sum of the
    int64 state ``sums`` over several processes is the state of all samples. Locations with labels ``ignored`` do not count;
    labels are the original's predictions unless ``labelled``. ``compare`` counts two numbers from the original's predictions of a
    sample, others, ``ids`` and C; None for no comparison."""

    def __init__(
        self,
        classes: int,
        ids: Sequence[int],
        ignored: Sequence[int] = (),
        compare: Compare | None = None,
        labelled: bool = True,
    ) -> None:
        self.classes, self.ids, self.compare, self.labelled = classes, list(ids), compare, labelled
        self.ignored = torch.tensor(list(ignored), dtype=torch.long)
        self.sums = torch.zeros(2 * (classes**2 + 2) + 2, dtype=torch.int64)

    def update(
        self, logits: Tensor, labels: Tensor, predicted: Tensor | None = None, original: Tensor | None = None
    ) -> None:
        """Add one sample: logits ``(C, *locations)``, which are not needed afterwards, and integers ``(*locations)``: labels,
        ``predicted`` (None takes the largest logit), and the original's predictions, to compare with."""
        predicted = logits.argmax(0) if predicted is None else predicted
        hidden = torch.isin(predicted, torch.tensor(self.ids, device=predicted.device))
        rest = logits[:, hidden]
        rest[self.ids] = -torch.inf
        without = predicted.clone()
        without[hidden] = rest.argmax(0)
        labels = labels.cpu()
        counts = ~torch.isin(labels, self.ignored)
        labels = labels[counts].long()
        predictions = (predicted, without)
        pairs = [labels * self.classes + each.cpu()[counts].long() for each in predictions]
        matrices = [torch.bincount(each, minlength=self.classes**2) for each in pairs]
        showing = torch.isin(labels, torch.tensor(self.ids)).any()
        compared = torch.zeros(2, 2, dtype=torch.int64)
        if original is not None and self.compare is not None:
            for sums, each in zip(compared, predictions, strict=True):
                sums += torch.tensor(self.compare(original, each, self.ids, self.classes))
        self.sums += torch.cat([*matrices, compared.flatten(), torch.tensor([1, int(showing)])])

    def compute(self) -> list[LocationCounts]:
        """Compute the counts of the model's predictions, and of those without the forgotten logits."""
        *counts, samples, showing = self.sums.split([2 * self.classes**2, 4, 1, 1])
        parts = counts[0].clone().reshape(2, self.classes, self.classes)
        compared = [tuple(pair) if self.compare else None for pair in counts[1].reshape(-1, 2).tolist()]
        return [
            LocationCounts(part, int(samples), int(showing), pair, self.labelled)
            for part, pair in zip(parts, compared, strict=True)
        ]
