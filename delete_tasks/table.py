"""Tables for a terminal: as many columns as fit, and none that hold nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 3  # characters between columns, one of them the box


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        title: Its header, which is never cut.
        detail: Shown only where every column is asked for.
    """

    title: str
    detail: bool = False


def show_table(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Mapping[str, Sequence[str | None]],
    wide: bool = False,
    first: str = "model",
) -> None:
    """Print a table that fits the console, and say what was left out.

    Rows and columns in which nothing was measured are left out. Without ``wide``, so are columns of detail, and then columns from
    the right until the table fits.

    Names come from people's data, so nothing in them is read as markup.

    Args:
        console: Where to.
        title: Above the table.
        columns: In order of importance.
        rows: Cells by the row's name, one a column; None where it was not measured.
        wide: Every column that holds something, on lines as long as they are.
        first: Header of the rows' names.
    """
    rows = {name: cells for name, cells in rows.items() if any(cell is not None for cell in cells)}
    filled = [i for i in range(len(columns)) if any(cells[i] is not None for cells in rows.values())]
    shown = [i for i in filled if wide or not columns[i].detail]

    def width(place: int) -> int:
        texts = [columns[place].title, *(cells[place] or "-" for cells in rows.values())]
        return max(map(cell_len, texts)) + GAP

    names = max((cell_len(name) for name in (first, *rows)), default=0) + GAP
    while not wide and len(shown) > 1 and names + sum(map(width, shown)) > console.width:
        shown.pop()
    table = Table(
        title=Text(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    table.add_column(Text(first), no_wrap=True)
    for place in shown:
        table.add_column(Text(columns[place].title), justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(Text(name), *(Text(cells[place] or "-") for place in shown))
    if wide:
        table.width = names + sum(map(width, shown))
    console.print(table, soft_wrap=wide)
    left_out = [columns[i].title for i in filled if i not in shown]
    if left_out:
        said = f"Not shown: {', '.join(left_out)} (--wide shows them; results.json holds all)"
        console.print(Text(said))
