"""What a task tells of a run for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"


@dataclass(frozen=True)
class Figure:
    """A utility figure of the erased model, and the limit it is held against.

    Attributes:
        name: Short, for ``--accept NAME=VALUE``.
        title: In words, with the data it was measured on.
        value: None was not measured.
        unit: 'percent' or 'points'.
        at_most: Default limit; None leaves the figure out unless the user sets one.
        original: The same of the original; None where there is no such thing.
    """

    name: str
    title: str
    value: float | None
    unit: str
    at_most: float | None
    original: float | None = None

    def status(self, limit: float) -> str:
        """PASS, FAIL or NOT MEASURED."""
        if self.value is None:
            return NOT_MEASURED
        return PASS if self.value <= limit else FAIL


@dataclass(frozen=True)
class Look:
    """How to make the record's attention picture: arguments of :func:`delete_tasks.attention.look.look_at`.

    Attributes:
        inputs: Data or images.
        class_id: The class that was forgotten.
        options: Of the attention command, e.g. ``config``.
    """

    inputs: Sequence[str]
    class_id: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordParts:
    """What only the task knows of a run.

    Attributes:
        figures: Utility figures.
        pictures: (path, caption) of pictures that show before and after.
        other_samples: Names of samples that were read beside the forget set, by what they are ('clean samples').
        measurement: JSON values from which ``Task.measure_again`` measures the figures anew; None where it cannot.
        measured_on: What the figures were measured on, in words.
        look: For the attention picture; None makes none.
        limits: Sentences on what this task's figures do not show.
    """

    figures: Sequence[Figure]
    pictures: Sequence[tuple[str, str]] = ()
    other_samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measurement: Mapping[str, Any] | None = None
    measured_on: str | None = None
    look: Look | None = None
    limits: Sequence[str] = ()
