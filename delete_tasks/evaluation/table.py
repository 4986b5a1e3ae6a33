"""Tables for a terminal: as many columns as fit, and none that hold nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 3  # characters between columns, one of them the box


def show_table(
    console: Console,
    title: str,
    columns: Sequence[tuple[str, bool]],
    rows: Mapping[str, Sequence[str | None]],
    wide: bool = False,
    first: str = "model",
    whole: str = "results.json",
) -> None:
    """Print a table that fits the console, and say what was left out. Of each column it takes the header, which is never cut,
    and whether it is one of detail, in order of importance; a cell is None where it was not measured.

    Rows and columns in which nothing was measured are left out. Without ``wide``, so are columns of detail, and then columns from
    the right until the table fits.

    ``whole`` is the file that holds all. Names come from people's data, so nothing in them is read as markup.
    """
    rows = {name: cells for name, cells in rows.items() if any(cell is not None for cell in cells)}
    filled = [i for i in range(len(columns)) if any(cells[i] is not None for cells in rows.values())]
    shown = [i for i in filled if wide or not columns[i][1]]
    if not shown:  # there is no table, and what was not measured is told elsewhere
        return

    def width(place: int) -> int:
        texts = [columns[place][0], *(cells[place] or "-" for cells in rows.values())]
        return max(map(cell_len, texts)) + GAP

    names = max((cell_len(name) for name in (first, *rows)), default=0) + GAP
    while not wide and len(shown) > 1 and names + sum(map(width, shown)) > console.width:
        shown.pop()
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column(Text(first), no_wrap=True)
    for place in shown:
        table.add_column(Text(columns[place][0]), justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(Text(name), *(Text(cells[place] or "-") for place in shown))
    if wide:
        table.width = names + sum(map(width, shown))
    console.print(Text(title, style="table.title"))  # a title of the table itself would be no wider than it
    console.print(table, soft_wrap=wide)
    left_out = [columns[i][0] for i in filled if i not in shown]
    if left_out:
        console.print(Text(f"Not shown: {', '.join(left_out)} (--wide shows them; {whole} holds all)"))


ROW_TITLES = {
    "logit_cut": "logit cut off",
    "head_only": "head only",
    "erased_with_original_head": "erased, original head",
}


def row_title(row: str) -> str:
    """What a row of results, e.g. 'logit_cut', is called where people read it."""
    return ROW_TITLES.get(row, row.replace("_", " "))


def show_rows(console: Console, title: str, results: Mapping[str, Any], wide: bool = False) -> None:
    """Print the table of a results.json. Where no main column was measured, those of detail take their place."""
    metrics = [metric for metric in results["metrics"] if metric["column"] is not None]
    rows = results["rows"]

    def value(row: str, metric: Mapping[str, Any]) -> float | None:
        return rows[row][metric["name"]]["value"]

    main = [metric for metric in metrics if not metric["detail"]]
    instead = all(value(row, metric) is None for row in rows for metric in main)
    columns = [(metric["column"], metric["detail"] and not instead) for metric in metrics]
    cells = {
        row_title(row): [
            None if found is None else f"{found:.2f}" for found in (value(row, metric) for metric in metrics)
        ]
        for row in rows
    }
    show_table(console, title, columns, cells, wide)


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader needs beside the table of a results.json, a sentence a line."""
    from ..forgotten import not_forgotten  # which needs mmengine

    lines = []
    forgotten = " or ".join(results["forgotten"])
    worst = results["rows"]["erased"].get("worst_drop")
    if worst is not None and worst["value"] is not None and worst["value"] > 0:
        lines.append(f"Of the others, {worst['of_class']} lost most: {worst['value']:.2f} points.")
    if results["prediction_shares"]:
        went = list(results["prediction_shares"].items())[:5]
        told = ", ".join(f"{name} {share:.1f}%" for name, share in went)
        lines.append(f"Predicted in place of {forgotten}: {told}.")
    check = results["forget_check"]
    left = not_forgotten(check, results["recipe"]["steps"], results["recipe"]["optimizer"])
    if left is not None:
        lines.append(left)
    elif check is not None and check.get("still") is not None:
        lines.append(
            f"Of what the original predicts as {forgotten} in the forget set, {check['still']:.1f}% still was at the end"
            f"{', before the row was taken out' if (results['finished'] or {}).get('rows_replaced') else ''}."
        )
    if results.get("audit") is not None:
        from ..audit.report import headline

        lines.append(f"Readability: {headline(results['audit']['verdict'])}")
    reason = (results["finished"] or {}).get("rows_not_replaced")
    if reason is not None:
        lines.append(f"The classes' rows are still in the model: {reason}.")
    lines += [f"Not measured: {part}, because {why.rstrip('.')}." for part, why in results["not_measured"].items()]
    read, seconds = results["forget_set"], results["seconds"]
    others = read["available"] - read["read"]
    left_out = f" ({others} other{'s' if others > 1 else ''} left out)" if others else ""
    told = ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items())
    lines.append(f"Read {read['read']} samples{left_out}, {results['steps']} steps; {told}.")
    return lines
