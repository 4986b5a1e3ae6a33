"""Tables of a grid: one line per cell as CSV, and means over seeds as Markdown and LaTeX."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from ..display.table import Table
from ..display.terminal import printable
from ..errors import RequestError
from ..evaluation.functional import class_drops, drop, h_mean
from .grid import CUT, ORIGINAL, REFERENCES, RETRAINED, Cell
from .measure import COLUMNS, COMPARED, READERS, Column

RUINED = 5  # points of Acc_rt below the original's; such a network is the best of no column
TITLES = {ORIGINAL: "original", CUT: "original, logit cut off", RETRAINED: "retrained"}
Content = Mapping[str, Any]  # of a cell.json
Results = Sequence[tuple[Cell, Content]]


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


def with_compared(results: Results) -> list[tuple[Cell, dict[str, Any]]]:
    """Add the figures that compare a cell with the original, and with the retrained networks, of its network and classes."""
    references: dict[Any, list[Content]] = {}
    for cell, content in results:
        if cell.method in REFERENCES:
            references.setdefault((cell.network, cell.group, cell.method), []).append(content)
    completed = []
    for cell, content in results:
        originals, retrained = (references.get((cell.network, cell.group, row), []) for row in (ORIGINAL, RETRAINED))
        compared = _compare(cell, content, originals[0], retrained) if originals else dict.fromkeys(COMPARED)
        completed.append((cell, {**content, "figures": {**content["figures"], **compared}}))
    return completed


def _compare(cell: Cell, content: Content, original: Content, retrained: Sequence[Content]) -> dict[str, float | None]:
    """Compute :data:`COMPARED`. IDI is (I - I of retrained) / (I of the original - I of retrained), I the features' information
    (arXiv 2405.17878); the gap is the readers' mean distance to the range of the retrained networks' figures, 0 within it."""
    before, after, is_original = original["figures"], content["figures"], cell.method == ORIGINAL
    remaining = [index for index in range(len(content["by_class"])) if index not in content["ids"]]
    drops = class_drops(original["by_class"], content["by_class"], remaining)
    lost = drop(before["acc_ft"], after["acc_ft"], 10)
    measured = lost is not None and after["acc_rt"] is not None and not is_original
    values = [each["figures"]["information"] for each in (original, content, *retrained)]
    idi = None
    if retrained and None not in values:
        least = float(np.mean(values[2:]))
        idi = round((values[1] - least) / (values[0] - least), 2) if values[0] > least else None
    readings = [[each["figures"][reader] for each in (content, *retrained)] for reader in READERS]
    known = [(own, others) for own, *others in readings if others and None not in (own, *others)]
    gaps = [max(min(others) - own, own - max(others), 0) for own, others in known]
    return {
        "worst_drop": None if is_original else max(drops.values(), default=None),
        "h_mean": h_mean(lost, after["acc_rt"]) if measured else None,  # type: ignore[arg-type]
        "idi": idi,
        "gap": float(np.mean(gaps)) if len(gaps) == len(READERS) else None,
    }


def lines(results: Results, merge: bool = False) -> list[Line]:
    """Collect the rows of the table, in the order of the cells; with ``merge``, those of all networks together."""
    groups: dict[tuple[str, str, str], list[tuple[Cell, Mapping[str, Any]]]] = {}
    together = f"{len({cell.network for cell, _ in results})} networks"
    for cell, content in with_compared(results):
        cell = replace(cell, network=together) if merge else cell
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
    for _, content in with_compared(results):
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
    """Find the indices of the rows with the best printed mean, among methods that read only the forget set and ruin nothing."""

    def distance(value: float) -> float:
        return value if column.best == "low" else -value if column.best == "high" else abs(value - float(column.best))

    original = next((row.mean("acc_rt") for row in rows if row.cell.method == ORIGINAL), None)
    least = (original or 0) - RUINED
    distances = {
        index: distance(round(row.mean(column.name), column.digits))  # type: ignore[arg-type]
        for index, row in enumerate(rows)
        if not row.is_reference and not row.cell.beside and row.mean(column.name) is not None
        if (row.mean("acc_rt") or 0) >= least
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
    "Mean and standard deviation over seeds. Bold: best of the methods that read only the forget set, none whose Acc_rt is more "
    "than 5 points below the original's. {retain}. Acc_f, Acc_r: "
    "accuracy of forgotten and remaining classes on training samples; Acc_ft, Acc_rt: on test samples. Worst: largest loss of a "
    "remaining class, points. MIA: share of the "
    "forget set that the papers' SVC attack takes for training samples; in class: AUC, 50 is chance. Probes and 5-shot: "
    "accuracy of attacks that read the forgotten classes from the features. Information: about the forget label in the stages' "
    "features, nats; IDI: 0 as in the retrained networks, 1 as in the original. Gap: mean distance of these three readers to the "
    "range of the retrained networks, points."
)


def chosen_columns(names: Sequence[str]) -> Sequence[Column]:
    """Find columns by name, all if there are no names; raise :class:`RequestError` for an unknown one."""
    by_name = {column.name: column for column in COLUMNS}
    for name in names:
        if name not in by_name:
            raise RequestError(f"columns of the grid holds '{name}'; expected names of {', '.join(by_name)}")
    return [by_name[name] for name in names] or COLUMNS


def to_markdown(rows: Sequence[Line], columns: Sequence[Column] = COLUMNS) -> str:
    """Render a table for each network and group, with methods that read other data than the forget set in italics."""
    parts = [f"### {table.title}\n\n{table.to_markdown()}" for table in _rendered(rows, columns)]
    return "\n\n".join([*parts, NOTE.format(retain="Italics: methods that read retain or public data")]) + "\n"


def to_latex(rows: Sequence[Line], columns: Sequence[Column] = COLUMNS) -> str:
    """Render the same tables with booktabs, with such methods in grey."""
    packages = ["% \\usepackage{adjustbox}", "% \\usepackage{booktabs}", "% \\usepackage[table]{xcolor}"]
    note = f"% {NOTE.format(retain='Grey: methods that read retain or public data')}"
    return "\n\n".join([*packages, *(table.to_latex() for table in _rendered(rows, columns)), note]) + "\n"


def _rendered(rows: Sequence[Line], columns: Sequence[Column]) -> Iterator[Table]:
    for title, group in tables(rows):
        table = Table([column.title for column in columns], "method", title)
        bests = [best(group, column) for column in columns]
        for index, row in enumerate(group):
            cells = [cell_text(row, column) for column in columns]
            bold = [number for number, indices in enumerate(bests) if index in indices]
            ruled = row.is_reference and index + 1 < len(group) and not group[index + 1].is_reference
            table.add(row.title, cells, bold=bold, muted=row.cell.beside, ruled=ruled)
        yield table
