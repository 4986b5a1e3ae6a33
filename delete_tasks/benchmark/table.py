"""Tables of a grid: one line per cell as CSV, and means over seeds as Markdown and LaTeX."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ..display.table import Table
from ..display.terminal import printable
from ..evaluation.functional import drop, h_mean
from .grid import CUT, ORIGINAL, REFERENCES, RETRAINED, Cell
from .measure import COLUMNS, Column

TITLES = {ORIGINAL: "original", CUT: "original, logit cut off", RETRAINED: "retrained"}
Results = Sequence[tuple[Cell, Mapping[str, Any]]]


@dataclass(frozen=True)
class Line:
    """Row of the table: a method's finished cells, one a seed, the forgotten ids, and the measured values by column."""

    cells: Sequence[Cell]
    ids: Sequence[int]
    values: Mapping[str, Sequence[float]]

    @property
    def cell(self) -> Cell:
        return self.cells[0]

    @property
    def is_reference(self) -> bool:
        return self.cell.method in REFERENCES

    @property
    def title(self) -> str:
        return TITLES.get(self.cell.method, self.cell.method)

    def mean(self, column: str) -> float | None:
        values = self.values[column]
        return float(np.mean(values)) if values else None


def with_h_mean(results: Results) -> list[tuple[Cell, dict[str, Any]]]:
    """Add the harmonic mean to the cells' figures; it compares with the original of the same network and classes."""
    originals = {(cell.network, cell.group): content["figures"] for cell, content in results if cell.method == ORIGINAL}
    completed = []
    for cell, content in results:
        figures, original = dict(content["figures"]), originals.get((cell.network, cell.group))
        lost = None if original is None else drop(original["acc_ft"], figures["acc_ft"], 10)
        measured = lost is not None and figures["acc_rt"] is not None and cell.method != ORIGINAL
        figures["h_mean"] = h_mean(lost, figures["acc_rt"]) if measured else None  # type: ignore[arg-type]
        completed.append((cell, {**content, "figures": figures}))
    return completed


def lines(results: Results) -> list[Line]:
    """Collect the rows of the table, in the order of the cells."""
    groups: dict[tuple[str, str, str], list[tuple[Cell, Mapping[str, Any]]]] = {}
    for cell, content in with_h_mean(results):
        groups.setdefault((cell.network, cell.group, cell.method), []).append((cell, content))
    rows = []
    for group in groups.values():
        every = {column.name: [content["figures"][column.name] for _, content in group] for column in COLUMNS}
        values = {name: [value for value in each if value is not None] for name, each in every.items()}
        rows.append(Line([cell for cell, _ in group], group[0][1]["ids"], values))
    return rows


def to_csv(results: Results) -> str:
    """Render one line per cell, below a line of names."""
    out = io.StringIO()
    names = ("network", "group", "classes", "method", "retain", "seed")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *(column.name for column in COLUMNS)])
    for _, content in with_h_mean(results):
        texts = (_inert(content[name]) for name in names)
        writer.writerow([*texts, *(content["figures"][column.name] for column in COLUMNS)])
    return out.getvalue()


def _inert(cell: Any) -> Any:
    """Escape control characters of a text, and put a ' before one that a spreadsheet would take for a formula (OWASP)."""
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def best(rows: Sequence[Line], column: Column) -> set[int]:
    """Find the indices of the rows with the best printed mean, among methods that read only the forget set."""

    def distance(value: float) -> float:
        return value if column.best == "low" else -value if column.best == "high" else abs(value - float(column.best))

    distances = {
        index: distance(round(row.mean(column.name), column.digits))  # type: ignore[arg-type]
        for index, row in enumerate(rows)
        if not row.is_reference and not row.cell.retain and row.mean(column.name) is not None
    }
    return {index for index, value in distances.items() if value == min(distances.values())}


def cell_text(row: Line, column: Column) -> str | None:
    """Format the mean, and the standard deviation over several seeds; None if it was not measured."""
    values = row.values[column.name]
    if not values:
        return None
    text = f"{np.mean(values):.{column.digits}f}"
    return text if len(values) < 2 else f"{text} ± {np.std(values, ddof=1):.{column.digits}f}"


def tables(rows: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Group rows by network and classes, each group with its title."""
    return [(title, [*group]) for title, group in groupby(rows, lambda row: f"{row.cell.network}: {row.cell.group}")]


NOTE = (
    "Mean and standard deviation over seeds. Bold: best of the methods that read only the forget set. {retain}. Acc_f, Acc_r: "
    "accuracy of forgotten and remaining classes on training samples; Acc_ft, Acc_rt: on test samples. MIA: share of the "
    "forget set that the papers' SVC attack takes for training samples; in class: AUC, 50 is chance. Probe and 5-shot: accuracy "
    "of attacks that read the forgotten classes from the features."
)


def to_markdown(rows: Sequence[Line]) -> str:
    """Render a table for each network and group, with methods that read retain data in italics."""
    parts = [f"### {table.title}\n\n{table.to_markdown()}" for table in _rendered(rows)]
    return "\n\n".join([*parts, NOTE.format(retain="Italics: methods that read retain data")]) + "\n"


def to_latex(rows: Sequence[Line]) -> str:
    """Render the same tables with booktabs, with methods that read retain data in grey."""
    packages = ["% \\usepackage{booktabs}", "% \\usepackage[table]{xcolor}"]
    note = f"% {NOTE.format(retain='Grey: methods that read retain data')}"
    return "\n\n".join([*packages, *(table.to_latex() for table in _rendered(rows)), note]) + "\n"


def _rendered(rows: Sequence[Line]) -> Iterator[Table]:
    for title, group in tables(rows):
        table = Table([column.title for column in COLUMNS], "method", title)
        bests = [best(group, column) for column in COLUMNS]
        for index, row in enumerate(group):
            cells = [cell_text(row, column) for column in COLUMNS]
            bold = [number for number, indices in enumerate(bests) if index in indices]
            ruled = row.is_reference and index + 1 < len(group) and not group[index + 1].is_reference
            table.add(row.title, cells, bold=bold, muted=row.cell.retain, ruled=ruled)
        yield table
