"""What a task tells of a run for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"
FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 2
RECORD, PAGE, ATTENTION = "record.json", "record.html", "attention.jpg"


@dataclass(frozen=True)
class Place:
    """A file or folder in what a record says: written relative to the work dir, or absolute; people's names in it are hidden."""

    path: str


@dataclass(frozen=True)
class Person:
    """A name in what a record says, which is hidden where class names are people's."""

    name: str


@dataclass(frozen=True)
class AttentionRequest:
    """How to make the record's attention picture: arguments of :func:`delete_tasks.attention.samples.compare_samples`.

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
        pictures: (path, caption) of pictures that show before and after.
        other_samples: Names of samples that were read or measured beside the forget set, by what they are ('retain set').
        measurement: From which ``Task.measure_again`` measures the figures anew, or why it cannot, in words. Mappings, lists,
            tuples, numbers, text, :class:`Place` and :class:`Person`. A path is a Place, so that the record can be moved and
            read from any folder.
        measured_on: What the figures were measured on, in words; text, or pieces of which some are a Place.
        attention: For the attention picture; None makes none.
        limits: Sentences on what this task's figures do not show.
    """

    pictures: Sequence[tuple[str, str]] = ()
    other_samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measurement: Mapping[str, Any] | str = "no test data were given"
    measured_on: str | Sequence[str | Place] | None = None
    attention: AttentionRequest | None = None
    limits: Sequence[str] = ()
