"""Text of which some pieces are paths or names: written into a record so that it can be moved, and people's names hidden."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A file or folder: written relative to the work dir, or absolute; people's names in it are hidden."""

    path: str


@dataclass(frozen=True)
class Person:
    """A name that is hidden where class names are people's. Within a data string it stands percent-escaped."""

    name: str


@dataclass(frozen=True)
class Text:
    """Pieces that make one string, such as a data string."""

    pieces: Sequence[str | Place | Person]
