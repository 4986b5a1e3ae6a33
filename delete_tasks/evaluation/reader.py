"""Reader of models over samples: batches of inputs, labels, logits, features and names for every metric and attack."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..display.progress import track
from ..errors import RequestError, first_line
from ..model.features import FeatureTap, Layer
from .predictions import Predictions, together

TRIED = 8  # samples of each split that are read before the first step
NO_LABEL = -1


class Samples(Protocol):
    """Samples of a split, in a fixed order; ``names`` holds one stable name for each."""

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Any) -> Any:
        """Select the samples at ``indices``, in that order."""


class Prepare(Protocol):
    """Batching and preprocessing of samples, ``size`` in a batch. Models with equal ``prepare`` are read in one pass."""

    @property
    def size(self) -> int: ...

    def __call__(self, samples: Any) -> Iterable[tuple[Any, Tensor]]:
        """Yield batches of inputs and int64 labels ``(n, *locations)``, -1 for a location without a label."""


class DataSamples(Subset):
    """Samples of any dataset with a length and items: those at ``indices`` (None: all), each with the ``name`` of its index."""

    def __init__(self, dataset: Any, name: Callable[[int], str] = str, indices: Sequence[int] | None = None) -> None:
        super().__init__(dataset, list(range(len(dataset)) if indices is None else indices))
        self.name = name

    @cached_property
    def names(self) -> list[str]:
        return [self.name(index) for index in self.indices]

    def subset(self, numbers: Any) -> "DataSamples":
        return DataSamples(self.dataset, self.name, [self.indices[int(number)] for number in numbers])


@dataclass(frozen=True)
class Loader:
    """Batches from a data loader; samples are dicts with ``inputs`` and ``labels``, or pairs of them."""

    size: int = 1

    def __call__(self, samples: Any) -> Iterator[tuple[Any, Tensor]]:
        for batch in DataLoader(samples, self.size, generator=torch.Generator()):
            yield (batch["inputs"], batch["labels"]) if isinstance(batch, Mapping) else tuple(batch)


def call(module: nn.Module, inputs: Any) -> Tensor:
    """Run a model that returns its logits."""
    return module(inputs)


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """Model to measure.

    Attributes:
        module: The model, in eval mode.
        last_layer: Layer whose input is the features.
        prepare: Batching and preprocessing of samples.
        forward: ``(module, inputs) -> logits (N, C, *locations)``, in order of the original's classes.
    """

    module: nn.Module
    last_layer: nn.Module
    prepare: Prepare = field(default_factory=Loader)
    forward: Callable[[nn.Module, Any], Tensor] = call

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))

    def run(self, inputs: Any) -> Tensor:
        """Compute the logits of a batch on the model's device."""
        return self.forward(self.module, inputs.to(self.device) if isinstance(inputs, Tensor) else inputs)


def read(
    models: Mapping[str, OpenedModel], samples: Samples, title: str, stages: Sequence[Layer] = ()
) -> Iterator[tuple[str, Predictions]]:
    """Run models, by row, over samples of a split: iterate over (row, predictions of a batch). Models with equal ``prepare``
    share each batch, so that it is prepared once. ``title`` is the progress bar's; mean maps of its ``stages`` are returned."""
    waiting = dict(models)
    while waiting:
        prepare = next(iter(waiting.values())).prepare
        group = {row: waiting.pop(row) for row in list(waiting) if waiting[row].prepare == prepare}
        with ExitStack() as stack:
            readers = {row: stack.enter_context(_Reader(model, stages)) for row, model in group.items()}
            for inputs, labels in track(prepare(samples), math.ceil(len(samples) / prepare.size), title):
                for row, reader in readers.items():
                    yield row, reader.outputs(inputs, labels)


class _Reader(ExitStack):
    """Reader of a model's logits, features and stages; its hooks are removed on exit."""

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
    def outputs(self, inputs: Any, labels: Tensor) -> Predictions:
        """Compute logits, features and stages of a batch."""
        self.model.module.eval()
        logits = self.model.run(inputs).float().cpu()
        features = None if self.tap.features is None else self.tap.features.float().cpu()
        if features is not None and labels.ndim == 1 and features.ndim != 2:
            features = None  # not one vector per sample
        return Predictions(logits, features, labels, dict(self.caught))


def predictions(
    models: Mapping[str, OpenedModel], samples: Samples, title: str, stages: Sequence[Layer] = ()
) -> dict[str, Predictions]:
    """Predict samples with one location each, by row."""
    parts: dict[str, list[Predictions]] = {row: [] for row in models}
    for row, batch in read(models, samples, title, stages):
        parts[row].append(batch)
    return {row: together(batches) for row, batches in parts.items()}


def try_out(model: OpenedModel, samples: Samples, what: str) -> None:
    """Run the model on the first few samples, so that it fails, with a :class:`RequestError`, before the first step."""
    try:
        for _ in read({"": model}, samples.subset(range(min(TRIED, len(samples)))), f"Trying the {what}"):
            pass
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RequestError(f"the {what} fails: {first_line(error)}") from error
