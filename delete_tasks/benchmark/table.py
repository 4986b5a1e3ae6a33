"""The grid's tables: a line a cell as CSV, and means over seeds as Markdown and LaTeX."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..display.table import Table
from ..evaluation.functional import drop, h_mean
from .grid import CUT, ORIGINAL, REFERENCES, RETRAINED, Cell
from .measure import COLUMNS, Column

TITLES = {ORIGINAL: "original", CUT: "original, logit cut off", RETRAINED: "retrained"}
Results = Sequence[tuple[Cell, Mapping[str, Any]]]


@dataclass(frozen=True)
class Line:
    """A row of the table: one method over all seeds that are done.

    Attributes:
        network, group, method: Names in the grid.
        classes: How many are forgotten.
        retain: Whether the method reads a retain set.
        values: Of each seed, by column; None was not measured.
        seeds: They.
    """

    network: str
    group: str
    classes: int
    method: str
    retain: bool
    values: Mapping[str, Sequence[float | None]]
    seeds: Sequence[int]

    @property
    def is_reference(self) -> bool:
        return self.method in REFERENCES

    @property
    def title(self) -> str:
        return TITLES.get(self.method, self.method)

    def known(self, column: str) -> list[float]:
        """Select the measured values."""
        return [value for value in self.values[column] if value is not None]

    def mean(self, column: str) -> float | None:
        known = self.known(column)
        return float(np.mean(known)) if known else None


def with_h_mean(results: Results) -> list[tuple[Cell, dict[str, Any]]]:
    """Cells with the harmonic mean among their figures: it compares with the original of the same network and classes."""
    originals = {(cell.network, cell.group): found["figures"] for cell, found in results if cell.method == ORIGINAL}
    filled = []
    for cell, found in results:
        figures, original = dict(found["figures"]), originals.get((cell.network, cell.group))
        lost = None if original is None else drop(original["acc_ft"], figures["acc_ft"], 10)
        known = lost is not None and figures["acc_rt"] is not None and cell.method != ORIGINAL
        figures["h_mean"] = h_mean(lost, figures["acc_rt"]) if known else None  # type: ignore[arg-type]
        filled.append((cell, {**found, "figures": figures}))
    return filled


def lines(results: Results) -> list[Line]:
    """Rows in the order of the cells."""
    found: dict[tuple[str, str, str], list[tuple[Cell, Mapping[str, Any]]]] = {}
    for cell, content in with_h_mean(results):
        found.setdefault((cell.network, cell.group, cell.method), []).append((cell, content))
    return [
        Line(
            network=network,
            group=group,
            method=method,
            classes=len(cells[0][0].classes),
            retain=cells[0][0].retain,
            values={column.name: [content["figures"][column.name] for _, content in cells] for column in COLUMNS},
            seeds=[cell.seed for cell, _ in cells],
        )
        for (network, group, method), cells in found.items()
    ]


def to_csv(results: Results) -> str:
    """Write one line per cell below a line of names."""
    out = io.StringIO()
    names = ("network", "group", "classes", "method", "retain", "seed")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *(column.name for column in COLUMNS)])
    for _, found in with_h_mean(results):
        writer.writerow([*(found[name] for name in names), *(found["figures"][column.name] for column in COLUMNS)])
    return out.getvalue()


def best(rows: Sequence[Line], column: Column) -> set[int]:
    """Places of the rows whose mean is the best, as it is printed, among methods that read the forget set alone."""
    means = {
        place: round(row.mean(column.name), column.digits)  # type: ignore[arg-type]
        for place, row in enumerate(rows)
        if not row.is_reference and not row.retain and row.mean(column.name) is not None
    }
    if not means:
        return set()

    def distance(value: float) -> float:
        return value if column.best == "low" else -value if column.best == "high" else abs(value - float(column.best))

    least = min(map(distance, means.values()))
    return {place for place, value in means.items() if distance(value) == least}


def cell_text(row: Line, column: Column) -> str | None:
    """Write mean, and standard deviation if there are several seeds; None was not measured."""
    known = row.known(column.name)
    if not known:
        return None
    text = f"{np.mean(known):.{column.digits}f}"
    return text if len(known) < 2 else f"{text} ± {np.std(known, ddof=1):.{column.digits}f}"


def tables(rows: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Rows by network and classes, with a title."""
    found: dict[tuple[str, str], list[Line]] = {}
    for row in rows:
        found.setdefault((row.network, row.group), []).append(row)
    return [(f"{network}: {group}", own) for (network, group), own in found.items()]


NOTE = (
    "Mean and standard deviation over seeds. Best of the methods that read the forget set alone: bold. {retain}. Acc_f, "
    "Acc_r: accuracy of forgotten and remaining classes on training samples; Acc_ft, Acc_rt: on test samples. MIA: forget set "
    "taken for training samples by the papers' SVC attack; in class: AUC, 50 is a guess. Probe and 5-shot: what is still read of "
    "the forgotten classes from the features."
)


def to_markdown(rows: Sequence[Line]) -> str:
    """Render a table for each network and group; rows of methods that read retain data in italics."""
    parts = [f"### {table.title}\n\n{table.to_markdown()}" for table in _rendered(rows)]
    return "\n\n".join([*parts, NOTE.format(retain="Methods that read retain data: in italics")]) + "\n"


def to_latex(rows: Sequence[Line]) -> str:
    r"""Render the same with booktabs; rows of methods that read retain data are grey (``\usepackage[table]{xcolor}``)."""
    parts = [
        "% \\usepackage{booktabs}",
        "% \\usepackage[table]{xcolor}",
        *(table.to_latex() for table in _rendered(rows)),
    ]
    return "\n\n".join([*parts, f"% {NOTE.format(retain='Methods that read retain data: grey')}"]) + "\n"


def _rendered(rows: Sequence[Line]) -> Iterator[Table]:
    for title, group in tables(rows):
        table = Table([column.title for column in COLUMNS], "method", title)
        marked = [best(group, column) for column in COLUMNS]
        for place, row in enumerate(group):
            cells = [cell_text(row, column) for column in COLUMNS]
            bold = [i for i, places in enumerate(marked) if place in places]
            ruled = row.is_reference and place + 1 < len(group) and not group[place + 1].is_reference
            table.add(row.title, cells, bold=bold, muted=row.retain, ruled=ruled)
        yield table
