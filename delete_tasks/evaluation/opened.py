"""Models by row and samples by split, opened once by the task and read by everything that measures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..model.features import Layer
from ..model.modes import fast_layout
from .copies import Copies
from .metric import Evaluation, Metric
from .predictions import ROWS, Compare, ConfusionState, Predictions, cut, together
from .reader import NO_LABEL, OpenedModel, read, try_out


@dataclass(frozen=True)
class Place:
    """Path of a file or folder, which a record writes relative to the work dir, and with people's names hidden."""

    path: str


@dataclass(frozen=True)
class Person:
    """Class name that a record hides if class names are people's; percent-escaped within a data string."""

    name: str


@dataclass(frozen=True)
class Text:
    """String made of pieces, such as a data string."""

    pieces: Sequence[str | Place | Person]


@dataclass(frozen=True)
class Sample:
    """One input as the models take it, and the class whose attention is measured.

    Attributes:
        name: Stable name, for tables.
        picture: Input of the network as a picture, uint8 RGB ``(H, W, 3)``, of the size of ``inputs``.
        inputs: float32 ``(3, H, W)``, preprocessed.
        class_id: Class of the attention map.
        removed: True for a forgotten class, False for a retained one.
        region: Pixels of the class, bool ``(H, W)``; None: the whole picture.
        region_is: Description of the region.
        caption: Caption of the picture; None names the class.
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
    """Models and samples of one request, used from the checks before a run to its report.

    Attributes:
        models: 'original', 'erased' and possibly others, by row, in eval mode on one device. A run adds 'erased' at its end.
        names: All classes, in order of the logits, as the original names them.
        samples: Samples by split: 'forget', 'train' and 'test' for attacks; the splits of the task's metrics for its table.
        ids: The forgotten classes.
        expected, avoid: Classes that may or must not replace them, see
            :func:`delete_tasks.evaluation.metrics.replaced_by`.
        of: Plural noun for the samples ('photos').
        not_measured: Reason by name of a metric that cannot be measured.
        ignored: Labels to ignore in samples of many locations.
        labelled: False if these samples have no labels; they are then compared with the original's predictions.
        compare: Comparison with the original's predictions there, see :class:`ConfusionState`.
        look: ``(inputs, class_id, others) -> samples`` for attention, in a fixed order: samples of the forgotten class and of
            ``others`` (if empty: the classes present). Inputs are data strings of the task's commands, or opened samples. None:
            no attention.
        elementwise: The head weighs each location of the last map separately, see
            :func:`delete_tasks.attention.gradcam.raw_map`.
        notes: Notes below pictures and figures of attention.
        reopen: ``data`` and ``options`` with which the task opens the models of a record again, to measure its figures anew:
            mappings, lists, tuples, numbers, strings, :class:`Text`, :class:`Place`, :class:`Person`. Or why it cannot.
        measured_on: Description of the data behind the figures.
        other_samples: Names of the samples that were read beside the forget set, by kind ('retain set').
        look_at: Inputs of ``look`` for the record's attention picture; if empty, there is none.
        limits: Limits of the task's figures, as sentences for the record.
        copies: Copies of samples in other data of the run.
        left_out: Indices of the test samples that are left out as copies.
    """

    models: dict[str, OpenedModel]
    names: Sequence[str]
    samples: dict[str, Any] = field(default_factory=dict)
    ids: Sequence[int] = ()
    expected: Sequence[int] = ()
    avoid: Sequence[int] = ()
    of: str = "samples"
    not_measured: dict[str, str] = field(default_factory=dict)
    ignored: Sequence[int] = (NO_LABEL,)
    labelled: bool = True
    compare: Compare | None = None
    look: Look | None = None
    elementwise: bool = False
    notes: Sequence[str] = ()
    reopen: Mapping[str, Any] | str = "this task does not offer to measure a record again"
    measured_on: Text | str | None = None
    other_samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    look_at: Sequence[Any] = ()
    limits: Sequence[str] = ()
    copies: Sequence[Copies] = ()
    left_out: Sequence[int] = ()

    def to(self, device: torch.device | str) -> None:
        """Move the models."""
        for model in self.models.values():
            model.module.to(device)

    def read(
        self, split: str, rows: Sequence[str] | None = None, stages: Sequence[Layer] = ()
    ) -> Iterator[tuple[str, Predictions]]:
        """Run models, by name (None: all), over a split, see :func:`read`; on a CPU in the faster layout."""
        models = {row: self.models[row] for row in (self.models if rows is None else rows)}
        for model in models.values():
            fast_layout(model.module)
        return read(models, self.samples[split], f"{', '.join(models).replace('_', ' ')}: {split}", stages)

    def rows(
        self, rows: Sequence[str] | None = None, splits: Sequence[str] | None = None, stages: Sequence[Layer] = ()
    ) -> dict[str, dict[str, Any]]:
        """Predict each split with each model, and with the original's logits cut off, in order of :data:`ROWS`: return
        :class:`Predictions`, with features of ``stages``, or :class:`LocationCounts` for many locations, by row and split."""
        rows_of: dict[str, dict[str, Any]] = {row: {} for row in (self.models if rows is None else rows)}
        if "original" in rows_of:
            rows_of["logit_cut"] = {}
        for split in self.samples if splits is None else splits:
            parts: dict[str, list[Predictions]] = {}
            counts: dict[str, ConfusionState] = {}
            first: list[Tensor] | None = None  # the original's predictions of the batch, which it reads first
            for row, batch in self.read(split, rows, stages):
                if batch.labels.ndim == 1:
                    parts.setdefault(row, []).append(batch)
                    continue
                first = list(batch.logits.argmax(1)) if row == "original" else first
                labels_of = batch.labels if self.labelled else first
                if labels_of is None:  # neither labels nor the original
                    continue
                options = (self.ids, self.ignored, self.compare, self.labelled)
                state = counts.setdefault(row, ConfusionState(batch.logits.shape[1], *options))
                for i, (logits, labels) in enumerate(zip(batch.logits, labels_of, strict=True)):
                    state.update(logits, labels, original=None if first is None else first[i])
            for row, batches in parts.items():
                rows_of[row][split] = together(batches)
                if row == "original":
                    rows_of["logit_cut"][split] = cut(rows_of[row][split], self.ids)
            for row, state in counts.items():
                rows_of[row][split], without = state.compute()
                if row == "original":
                    rows_of["logit_cut"][split] = without
        return {row: rows_of[row] for row in dict.fromkeys((*ROWS, *rows_of)) if row in rows_of}

    def evaluate(self, metrics: Sequence[Metric]) -> Evaluation:
        """Measure each row."""
        evaluation = Evaluation(metrics, self.ids, self.names, self.not_measured, self.expected, self.avoid)
        for row, data in self.rows().items():
            evaluation.add(row, data)
        return evaluation

    def rehearse(self, what: Mapping[str, str] | None = None) -> None:
        """Try each model on the first few samples of each split, see :func:`try_out`; ``what`` names the splits in messages."""
        for split, samples in self.samples.items():
            for row, model in self.models.items():
                name = (what or {}).get(split, f"the samples ({split})")
                try_out(model, samples, f"{row.replace('_', ' ')} model on {name}")
