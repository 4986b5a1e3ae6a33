"""The one loop over data behind all figures: models over samples, in batches of inputs, labels, logits, features and names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..display.terminal import track
from ..errors import RequestError, first_line
from ..model.features import FeatureTap, Layer
from .predictions import Predictions, together

TRIED = 8  # samples of each split that are read before the first step
NO_LABEL = -1


class Samples(Protocol):
    """Samples of a split, in a fixed order.

    Attributes:
        names: One stable name for each.
    """

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Any) -> Any:
        """Select the samples at ``indices``, in that order."""


class Prepare(Protocol):
    """Makes batches of samples as a model takes them. Models whose ``prepare`` are equal are read in one pass.

    Attributes:
        size: Samples in a batch.
    """

    @property
    def size(self) -> int: ...

    def __call__(self, samples: Any) -> Iterable[tuple[Any, Tensor]]:
        """Batches of inputs and int64 labels ``(n, *locations)``, -1 where there is none."""


class DataSamples(Dataset):
    """Samples of any dataset.

    Args:
        dataset: With a length and items.
        name: A sample's name, from its index in the dataset.
        indices: Of the samples that take part; None takes all.
    """

    def __init__(self, dataset: Any, name: Callable[[int], str] = str, indices: Sequence[int] | None = None) -> None:
        self.dataset, self.name = dataset, name
        self.indices = list(range(len(dataset)) if indices is None else indices)

    @cached_property
    def names(self) -> list[str]:
        return [self.name(index) for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Any:
        return self.dataset[self.indices[number]]

    def subset(self, numbers: Any) -> DataSamples:
        return DataSamples(self.dataset, self.name, [self.indices[int(number)] for number in numbers])


@dataclass(frozen=True)
class Loader:
    """Batches of a data loader: of samples that are dicts of ``inputs`` and ``labels``, or pairs of them."""

    size: int = 1

    def __call__(self, samples: Any) -> Iterator[tuple[Any, Tensor]]:
        for batch in DataLoader(samples, self.size, generator=torch.Generator()):
            yield (batch["inputs"], batch["labels"]) if isinstance(batch, Mapping) else tuple(batch)


def call(module: nn.Module, inputs: Any) -> Tensor:
    """Run a model that returns its logits."""
    return module(inputs)


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model that is measured or looked at.

    Attributes:
        module: The model, in eval mode.
        last_layer: What goes into it are the features.
        prepare: Makes batches of samples.
        forward: ``(module, inputs) -> logits (N, C, *locations)``, in order of the original's classes.
        scale: See :class:`delete_tasks.audit.attack.Network`.
    """

    module: nn.Module
    last_layer: nn.Module
    prepare: Prepare = field(default_factory=Loader)
    forward: Callable[[nn.Module, Any], Tensor] = call
    scale: Tensor = field(default_factory=lambda: torch.ones(()))

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))

    def run(self, inputs: Any) -> Tensor:
        """Compute the logits of a batch, on the model's device, with gradients where they are enabled."""
        return self.forward(self.module, inputs.to(self.device) if isinstance(inputs, Tensor) else inputs)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of a split, and what one model makes of them.

    Attributes:
        names: Of the samples.
        inputs: As the model takes them, on the CPU.
        labels: int64 ``(n, *locations)``; -1 where there is none.
        logits: float32 ``(n, C, *locations)``, on the CPU.
        features: float32 ``(n, d)`` or ``(n, d, *locations)``, the last layer's input; None where that layer was not run.
        layers: float32 ``(n, d)`` by the name of a stage: means of its map.
    """

    names: Sequence[str]
    inputs: Any
    labels: Tensor
    logits: Tensor
    features: Tensor | None
    layers: Mapping[str, Tensor]

    def predictions(self) -> Predictions:
        """Predict samples with one location each."""
        features = self.features if self.features is not None and self.features.ndim == 2 else None
        return Predictions(self.logits, features, self.labels, self.layers)


def read(
    models: Mapping[str, OpenedModel], samples: Samples, title: str, stages: Sequence[Layer] = ()
) -> Iterator[tuple[str, Batch]]:
    """Run models over samples: the one loop over data behind all figures.

    Args:
        models: By row. Those that are prepared alike see each batch one after the other, so that it is made once.
        samples: Of a split.
        title: Of the progress bar.
        stages: Layers whose maps' means are kept, of models that have them.

    Returns:
        An iterator over the row and the batch as its model sees it.
    """
    waiting = dict(models)
    while waiting:
        prepare = next(iter(waiting.values())).prepare
        group = {row: waiting.pop(row) for row in list(waiting) if waiting[row].prepare == prepare}
        with ExitStack() as stack:
            readers = {row: stack.enter_context(_Reader(model, stages)) for row, model in group.items()}
            begin = 0
            for inputs, labels in track(prepare(samples), math.ceil(len(samples) / prepare.size), title):
                names = samples.names[begin : begin + len(labels)]
                begin += len(labels)
                for row, reader in readers.items():
                    yield row, Batch(names, inputs, labels, *reader.outputs(inputs))


class _Reader(ExitStack):
    """A model whose features and stages are caught while it is open."""

    def __init__(self, model: OpenedModel, stages: Sequence[Layer]) -> None:
        super().__init__()
        self.model, self.caught = model, dict[str, Tensor]()
        self.tap = self.enter_context(FeatureTap(model.last_layer))
        named = dict(model.module.named_modules())
        for layer in stages:
            if layer.name in named:
                self.callback(named[layer.name].register_forward_hook(partial(self._keep, layer)).remove)

    def _keep(self, layer: Layer, _: nn.Module, __: Any, output: Tensor) -> None:
        self.caught[layer.name] = layer.as_map(output.detach()).float().flatten(2).mean(2).cpu()

    @torch.no_grad()
    def outputs(self, inputs: Any) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Run a batch: logits, features and stages."""
        self.model.module.eval()
        logits = self.model.run(inputs).float().cpu()
        features = None if self.tap.features is None else self.tap.features.float().cpu()
        return logits, features, dict(self.caught)


def predictions(
    models: Mapping[str, OpenedModel], samples: Samples, title: str, stages: Sequence[Layer] = ()
) -> dict[str, Predictions]:
    """Read samples with one location each: predictions by row."""
    parts: dict[str, list[Predictions]] = {row: [] for row in models}
    for row, batch in read(models, samples, title, stages):
        parts[row].append(batch.predictions())
    return {row: together(own) for row, own in parts.items()}


def try_out(model: OpenedModel, samples: Samples, what: str) -> None:
    """Read the first few samples, so that what fails fails before the first step.

    Raises:
        RequestError: The model fails.
    """
    try:
        for _ in read({"": model}, samples.subset(range(min(TRIED, len(samples)))), f"Trying the {what}"):
            pass
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RequestError(f"the {what} fails: {first_line(error)}") from error
