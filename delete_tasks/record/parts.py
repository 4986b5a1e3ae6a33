"""What a task tells of a run for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .intervals import Interval, wilson

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"


@dataclass(frozen=True)
class Figure:
    """A utility figure of the erased model, and the limit it is held against.

    A task declares its figures without values (``Task.figures``), so that a wrong ``--accept`` is known before a run; after
    the run :meth:`share` or :meth:`measured` fill them in.

    Attributes:
        name: Short, for ``--accept NAME=MOST``.
        title: In words, with the data it was measured on.
        unit: 'percent' or 'points'.
        at_most: Default limit; None leaves the figure out unless the user sets one.
        of: What ``count`` counts, e.g. 'test images'.
        value: None was not measured.
        original: The same of the original; None where there is no such thing.
        count: How many of ``of`` the figure rests on.
        interval: The value's 95% interval.
        original_interval: The original's.
        note: Why it was not measured, or why there is no interval, or what the interval is of.
    """

    name: str
    title: str
    unit: str
    at_most: float | None
    of: str = "samples"
    value: float | None = None
    original: float | None = None
    count: int | None = None
    interval: Interval | None = None
    original_interval: Interval | None = None
    note: str | None = None

    def measured(self, value: float | None, original: float | None = None, **rest: Any) -> Figure:
        """The figure with values; ``rest`` are ``count, of, interval, original_interval, note``."""
        return replace(self, value=value, original=original, **rest)

    def share(self, value: float | None, original: float | None, count: int | None, **rest: Any) -> Figure:
        """A percentage of ``count`` things that do not depend on each other: with Wilson's intervals."""
        intervals = {"interval": wilson(value, count), "original_interval": wilson(original, count)}
        return self.measured(value, original, count=count, **intervals, **rest)

    def or_because(self, reason: str) -> Figure:
        """The figure, with the reason as its note where it was not measured."""
        return self if self.value is not None else replace(self, note=reason)

    def status(self, limit: float) -> str:
        """PASS, FAIL or NOT MEASURED."""
        if self.value is None:
            return NOT_MEASURED
        return PASS if self.value <= limit else FAIL


def why_not(results: Mapping[str, Any], *parts: str) -> str | None:
    """Why a run's results lack one of some parts, or all of them; None where they say nothing of it.

    Args:
        results: Of a command; ``not_measured`` is a reason, or a mapping from parts to reasons.
        parts: Names in that mapping, the most important first.
    """
    told = results.get("not_measured")
    if isinstance(told, Mapping):
        return next((str(told[part]) for part in parts if part in told), None)
    return None if told is None else str(told)


@dataclass(frozen=True)
class Place:
    """A file or folder in what a record says: written relative to the work dir, or absolute; people's names in it are hidden."""

    path: str


@dataclass(frozen=True)
class Person:
    """A name in what a record says, which is hidden where class names are people's."""

    name: str


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
        figures: The task's figures, filled in.
        pictures: (path, caption) of pictures that show before and after.
        other_samples: Names of samples that were read or measured beside the forget set, by what they are ('clean samples').
        measurement: From which ``Task.measure_again`` measures the figures anew, or why it cannot, in words. Mappings, lists,
            tuples, numbers, text, :class:`Place` and :class:`Person`. A path is a Place, so that the record can be moved and
            read from any folder.
        measured_on: What the figures were measured on, in words; text, or pieces of which some are a Place.
        look: For the attention picture; None makes none.
        limits: Sentences on what this task's figures do not show.
    """

    figures: Sequence[Figure] = ()
    pictures: Sequence[tuple[str, str]] = ()
    other_samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measurement: Mapping[str, Any] | str = "no test data were given"
    measured_on: str | Sequence[str | Place] | None = None
    look: Look | None = None
    limits: Sequence[str] = ()
