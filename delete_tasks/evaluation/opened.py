"""Models by row and samples by split, opened once: what all that measures or looks at a model reads from.

A task opens them (:attr:`delete_tasks.task.Task.open`); the table of a run, ``record verify --rerun``, the audit, attention, the
rehearsal before a run and the benchmark read them, see :mod:`delete_tasks.evaluation.reader`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..model.features import Layer
from .evaluation import Evaluation
from .metric import Metric
from .predictions import ROWS, ConfusionState, Predictions, cut, together
from .reader import NO_LABEL, Batch, OpenedModel, read, try_out
from .text import Text


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

    def read(
        self, split: str, rows: Sequence[str] | None = None, stages: Sequence[Layer] = ()
    ) -> Iterator[tuple[str, Batch]]:
        """Run models over a split, see :func:`read`. ``rows`` are the models' names; None takes all."""
        models = {row: self.models[row] for row in (self.models if rows is None else rows)}
        return read(models, self.samples[split], f"{', '.join(models).replace('_', ' ')}: {split}", stages)

    def rows(self, rows: Sequence[str] | None = None, splits: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Read what metrics take of each row and split: :class:`Predictions`, or :class:`LocationCounts` where a sample has many
        locations; with the original's cut-off logits as a row of their own, in order of :data:`ROWS`."""
        rows_of: dict[str, dict[str, Any]] = {row: {} for row in (self.models if rows is None else rows)}
        if "original" in rows_of:
            rows_of["logit_cut"] = {}
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
            for row, own in parts.items():
                rows_of[row][split] = together(own)
                if row == "original":
                    rows_of["logit_cut"][split] = cut(rows_of[row][split], self.ids)
            for row, state in counts.items():
                rows_of[row][split], without = state.compute()[:2]
                if row == "original":
                    rows_of["logit_cut"][split] = without
        return {row: rows_of[row] for row in dict.fromkeys((*ROWS, *rows_of)) if row in rows_of}

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
