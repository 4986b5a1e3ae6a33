"""Models by row and samples by split, opened once: what all that measures or looks at a model reads from.

A task opens them (:attr:`delete_tasks.task.Task.open`); the table of a run, ``record verify --rerun``, the audit, attention, the
rehearsal before a run and the benchmark read them with :func:`read`, in batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import RequestError, first_line
from ..features import FeatureTap, Layer
from ..terminal import track
from .evaluation import Evaluation
from .metric import Metric
from .predictions import ROWS, ConfusionState, Predictions, cut, together
from .text import Text

TRIED = 8  # samples of each split that are read before the first step
NO_LABEL = -1


class Samples(Protocol):
    """Samples of a split, in a fixed order.

    Attributes:
        names: One stable name for each.
    """

    names: Sequence[str]

    def __len__(self) -> int: ...

    def subset(self, indices: Any) -> Any:
        """The samples at ``indices``, in that order."""


class Prepare(Protocol):
    """Makes batches of samples as a model takes them. Models whose ``prepare`` are equal are read in one pass.

    Attributes:
        size: Samples in a batch.
    """

    size: int

    def __call__(self, samples: Any) -> Iterable[tuple[Any, Tensor]]:
        """Batches of inputs and int64 labels ``(n, *locations)``, -1 where there is none."""


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
    prepare: Prepare
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
        """What the model predicts for samples with one location each."""
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
        """Logits, features and stages of a batch."""
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


@dataclass(frozen=True)
class Sample:
    """One input as the models take it, and the class whose attention is asked for.

    Attributes:
        name: Stable, for tables.
        picture: uint8 RGB ``(H, W, 3)``, what the network sees, of the size of ``inputs``.
        inputs: float32 ``(3, H, W)``, preprocessed.
        class_id: Whose map.
        removed: The class was to be forgotten here; else it was to be kept.
        region: Booleans ``(H, W)``, where the class shows; None: the whole picture.
        region_is: What the region is, in words.
        caption: What the picture shows and whose map is drawn, in words; None names the class.
    """

    name: str
    picture: Any
    inputs: Tensor
    class_id: int
    removed: bool
    region: Any = None
    region_is: str = "whole picture"
    caption: str | None = None


Look = Callable[[Sequence[Any], int, Sequence[int]], Iterator[Sample]]


@dataclass(eq=False)
class Opened:
    """Models and samples of one request, from the checks before a run, or a command that measures, to its report.

    Attributes:
        models: 'original', 'erased' and perhaps others by row, in eval mode on one device. A run adds 'erased' when it is done.
        names: All classes, in order of the logits, as the original names them.
        samples: By split: 'forget', 'train' and 'test' for attacks; what the task's metrics are of for its table.
        ids: The forgotten classes.
        expected: The classes that may take their place, see :func:`delete_tasks.evaluation.metrics.unexpected`.
        of: What a sample is.
        not_measured: Why a metric will not be, by its name.
        ignored: Labels that do not count where a sample has many locations.
        look: ``(inputs, class_id, others) -> samples`` for attention, in a fixed order: of the forgotten class, and of ``others``
            (none takes what it finds). Inputs are data as the task's commands take them, or opened samples. None: no attention.
        elementwise: Networks weigh the places of the last map each in its own way, see
            :func:`delete_tasks.attention.gradcam.raw_map`.
        notes: Sentences for readers of pictures and figures of attention.
        reopen: ``data`` and ``options`` with which the task opens the models of a record again, to measure its figures anew:
            mappings, lists, tuples, numbers, strings, :class:`Text`, :class:`Place`, :class:`Person`. Or why it cannot, in words.
        measured_on: The data behind the figures, in words.
        other_samples: Names of samples that were read beside the forget set, by what they are ('retain set').
        look_at: Inputs of ``look`` for the record's attention picture; none makes no picture.
        limits: Sentences for the record on what this task's figures do not show.
    """

    models: dict[str, OpenedModel]
    names: Sequence[str]
    samples: dict[str, Any] = field(default_factory=dict)
    ids: Sequence[int] = ()
    expected: Sequence[int] = ()
    of: str = "samples"
    not_measured: dict[str, str] = field(default_factory=dict)
    ignored: Sequence[int] = (NO_LABEL,)
    look: Look | None = None
    elementwise: bool = False
    notes: Sequence[str] = ()
    reopen: Mapping[str, Any] | str = "this task does not offer to measure a record again"
    measured_on: Text | str | None = None
    other_samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    look_at: Sequence[Any] = ()
    limits: Sequence[str] = ()

    def to(self, device: torch.device | str) -> None:
        """Move the models."""
        for model in self.models.values():
            model.module.to(device)

    def read(self, split: str, rows: Sequence[str] | None = None, stages: Sequence[Layer] = ()) -> Iterator[Any]:
        """Run models over a split, see :func:`read`. ``rows`` are the models' names; None takes all."""
        models = {row: self.models[row] for row in (self.models if rows is None else rows)}
        return read(models, self.samples[split], f"{', '.join(models).replace('_', ' ')}: {split}", stages)

    def rows(self, rows: Sequence[str] | None = None, splits: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Read what metrics take of each row and split: :class:`Predictions`, or :class:`LocationCounts` where a sample has many
        locations; with the original's cut-off logits as a row of their own, in order of :data:`ROWS`."""
        found: dict[str, dict[str, Any]] = {}
        for split in self.samples if splits is None else splits:
            parts: dict[str, list[Predictions]] = {}
            counts: dict[str, ConfusionState] = {}
            for row, batch in self.read(split, rows):
                if batch.labels.ndim == 1:
                    parts.setdefault(row, []).append(batch.predictions())
                    continue
                state = counts.setdefault(row, ConfusionState(batch.logits.shape[1], self.ids, self.ignored))
                for logits, labels in zip(batch.logits, batch.labels, strict=True):
                    state.update(logits, labels)
            of_split: dict[str, Any] = {row: together(own) for row, own in parts.items()}
            hidden = {row: cut(one, self.ids) for row, one in of_split.items() if row == "original"}
            for row, state in counts.items():
                of_split[row], hidden[row] = state.compute()[:2]
            for row, one in of_split.items():
                found.setdefault(row, {})[split] = one
            if "original" in hidden:
                found.setdefault("logit_cut", {})[split] = hidden["original"]
        return {row: found[row] for row in dict.fromkeys((*ROWS, *found)) if row in found}

    def evaluate(self, metrics: Sequence[Metric]) -> Evaluation:
        """Measure each row."""
        evaluation = Evaluation(metrics, self.ids, self.names, self.not_measured, self.expected)
        for row, data in self.rows().items():
            evaluation.add(row, data)
        return evaluation

    def rehearse(self, what: Mapping[str, str] | None = None) -> None:
        """Try each model on the first few samples of each split.

        Args:
            what: What the user calls the splits in messages.

        Raises:
            RequestError: A model fails.
        """
        for split, samples in self.samples.items():
            for row, model in self.models.items():
                name = (what or {}).get(split, f"the samples ({split})")
                try_out(model, samples, f"{row.replace('_', ' ')} model on {name}")
