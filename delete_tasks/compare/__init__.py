"""Runs side by side: what each task's results.json is compared by, and the command that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A figure of results.json.

    Attributes:
        title: Of the column.
        path: Keys, joined by dots. ``{row}`` stands for the original's row and then for the erased model's, which gives two
            values; without it there is one. A figure that is null, or below a null, was not measured.
    """

    title: str
    path: str


@dataclass(frozen=True)
class Compared:
    """How runs of a task are compared; a plugin's ``commands.py`` holds one under the name ``COMPARED``.

    Attributes:
        unit: What the figures are, in words.
        asked: Path of what was to be forgotten: a name, or a list of names.
        forgotten: The lower the better.
        kept: The higher the better.
        others: Further columns.
        wide: Columns that ``--wide`` adds, and that stand in where none of the above was measured in any run.
        erased: Rows that hold the result; the first that a run has counts.
        data: Path of what the figures were measured on, where results.json says that.
    """

    unit: str
    asked: str
    forgotten: Measure
    kept: Measure
    others: Sequence[Measure] = ()
    wide: Sequence[Measure] = ()
    erased: Sequence[str] = ("erased",)
    data: str | None = None


__all__ = ["Compared", "Measure"]
