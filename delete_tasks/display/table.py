"""Tables for the terminal, Markdown and LaTeX."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from .terminal import printable

GAP, TIGHT = 3, 2  # characters between columns, one of them the box; TIGHT if titles wrap
LEAST = 28  # minimum width of a column of words in a terminal, if a word of them is as long
BAR = "\\|"  # a bar in a cell of Markdown
HINT = "--wide shows them; results.json holds all"

ROW_TITLES = {"logit_cut": "logit cut off", "erased_with_original_head": "erased, original head"}
Cells = Sequence[str | None]


def row_title(row: str) -> str:
    """Return the title of a row of results, e.g. 'logit cut off' for 'logit_cut'."""
    return ROW_TITLES.get(row, row.replace("_", " "))


@dataclass(frozen=True)
class Column:
    """Column: a terminal never cuts its ``title``, shows ``detail`` only with ``wide``, and aligns ``words`` to the left."""

    title: str
    detail: bool = False
    words: bool = False


@dataclass(frozen=True)
class _Line:
    cells: Cells  # the name first
    bold: Collection[int]
    muted: bool
    ruled: bool


class Table:
    """Table of names and cells. ``columns`` follow the names, whose title is ``first``; a text is the title of a column of
    figures. ``title`` is the line above the table, and the caption in LaTeX.

    Example:
        >>> table = Table(["accuracy"])
        >>> table.add("original", ["93.60"])
        >>> print(table.to_markdown())
        | model | accuracy |
        |---|---|
        | original | 93.60 |
    """

    def __init__(self, columns: Iterable[Column | str], first: str = "model", title: str = "") -> None:
        others = (column if isinstance(column, Column) else Column(column) for column in columns)
        self.columns = [Column(first, words=True), *others]
        self.title = title
        self.lines: list[_Line] = []

    def add(
        self, name: str, cells: Cells, bold: Collection[int] = (), muted: bool = False, ruled: bool = False
    ) -> None:
        """Add a line with a cell for each column, None for a figure that was not measured. ``bold`` are indices of bold cells in
        Markdown and LaTeX; a ``muted`` line is italic in Markdown and grey in LaTeX, where a rule follows a ``ruled`` one."""
        self.lines.append(_Line([name, *cells], bold, muted, ruled))

    def show(self, console: Console, wide: bool = False, wrap: bool = False, hint: str = HINT) -> None:
        """Print the table in the width of the console, and name the columns left out; ``hint`` says how to see them. Lines and
        columns without figures are left out; without ``wide`` also columns of detail, then others from the right until the table
        fits; ``wrap`` first wraps titles at spaces, and words anywhere. Names are user data, so they are never read as markup."""
        lines = [line for line in self.lines if any(cell is not None for cell in line.cells[1:])]
        filled = [i for i in range(1, len(self.columns)) if any(line.cells[i] is not None for line in lines)]
        printed = [0, *(i for i in filled if wide or not self.columns[i].detail)]
        if len(printed) == 1:  # no figures; the reasons are printed elsewhere
            return
        texts = [["-" if cell is None else printable(cell) for cell in line.cells] for line in lines]
        cells = {i: [line[i] for line in texts] for i in printed}
        widths = {i: max(map(cell_len, [self.columns[i].title, *cells[i]])) for i in printed}
        gap, wrap = GAP, wrap and not wide and sum(widths[i] + GAP for i in printed) > console.width
        if wrap:
            gap = TIGHT
            for i in printed:
                least = max(map(cell_len, [*self.columns[i].title.split(), *cells[i]]))
                widths[i] = min(least, LEAST) if self.columns[i].words else least
        while not wide and len(printed) > 2 and sum(widths[i] + gap for i in printed) > console.width:
            printed.pop()
        grid = Grid(box=SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), show_edge=False, pad_edge=False)
        for i in printed:
            title, words = Text(self.columns[i].title), self.columns[i].words
            width = widths[i] if wrap and not words else None
            grid.add_column(title, justify="left" if words else "right", no_wrap=not wrap, width=width, overflow="fold")
        for line in zip(*(cells[i] for i in printed), strict=True):
            grid.add_row(*map(Text, line))
        if wide:
            grid.width = sum(widths[i] + gap for i in printed)
        if self.title:
            console.print(Text(self.title, style="table.title"))  # the grid's own title would wrap at its width
        console.print(grid, soft_wrap=wide)
        left_out = [self.columns[i].title for i in filled if i not in printed]
        if left_out:
            console.print(Text(f"Not shown: {', '.join(left_out)} ({hint})"))

    def to_markdown(self) -> str:
        """Render as Markdown, without the title."""
        rows = [[column.title for column in self.columns]]
        for line in self.lines:
            cells = ["-" if cell is None else cell for cell in line.cells]
            cells = [f"**{cell}**" if i in line.bold else cell for i, cell in enumerate(cells, -1)]
            rows.append([f"*{cell}*" for cell in cells] if line.muted else cells)
        head, *body = (f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |" for row in rows)
        return "\n".join([head, f"|{'---|' * len(self.columns)}", *body])

    def to_latex(self) -> str:
        r"""Render as a LaTeX table, no wider than the line: packages booktabs, adjustbox, and for muted lines xcolor[table]."""
        columns = "".join("l" if column.words else "r" for column in self.columns)
        text = ["\\begin{table}", "\\centering", f"\\caption{{{_escape(self.title)}}}"]
        text += ["\\begin{adjustbox}{max width=\\linewidth}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
        text += [" & ".join(_escape(column.title) for column in self.columns) + " \\\\", "\\midrule"]
        for line in self.lines:
            cells = ["-" if cell is None else _escape(cell) for cell in line.cells]
            cells = [f"\\textbf{{{cell}}}" if i in line.bold else cell for i, cell in enumerate(cells, -1)]
            grey = "\\rowcolor{gray!20} " if line.muted else ""
            text.append(f"{grey}{' & '.join(cells)} \\\\")
            text += ["\\midrule"] if line.ruled else []
        return "\n".join([*text, "\\bottomrule", "\\end{tabular}", "\\end{adjustbox}", "\\end{table}"])


def _escape(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$"}
    return "".join(special.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)
