"""Text with paths and names of people, which a record writes as relative paths and hidden names."""

from collections.abc import Sequence
from dataclasses import dataclass


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
