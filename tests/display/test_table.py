"""Tables in the terminal, which fit its width and name the columns that are left out, in Markdown and in LaTeX."""

import io

import pytest
from rich.console import Console

from delete_tasks.display.table import Column, Table

COLUMNS = ["forgotten", "others", "empty", "calibration error", Column("H-mean", detail=True)]
ROWS = {
    "original": ["95.80", "93.60", None, "4.10", "0.00"],
    "erased_with_original_head": ["0.00", "93.81", None, None, "94.80"],
    "retrained": [None, None, None, None, None],
}


def text(width: int, wide: bool = False, wrap: bool = False, rows=ROWS) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    made = Table(COLUMNS, title="Forgetting [/deer]")
    for name, cells in rows.items():
        made.add(name, cells)
    made.show(console, wide, wrap)
    return console.export_text()


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_it_fits_and_nothing_is_cut(width):
    shown = text(width)
    assert "…" not in shown and "retrained" not in shown and "empty" not in shown
    assert all(len(line) <= width for line in shown.splitlines() if "Not shown" not in line)
    assert "forgotten" in shown and "95.80" in shown and "erased_with_original_head" in shown
    assert ("calibration error" in shown.split("Not shown")[0]) == (width >= 80)
    left_out = shown.split("Not shown")[1]
    assert "H-mean" in left_out and "--wide" in left_out


def test_wide_shows_all():
    shown = text(40, wide=True)
    assert "Not shown" not in shown and "H-mean" in shown and "94.80" in shown and "…" not in shown
    assert len({len(line.rstrip()) for line in shown.splitlines() if "0.00" in line}) <= 2
    assert "empty" not in shown


def test_nothing_measured_is_no_table():
    assert text(80, rows={"erased": [None] * len(COLUMNS)}) == ""


@pytest.mark.parametrize("width", [46, 62, 72])
def test_titles_and_names_wrap_before_columns_go(width):
    shown = text(width, wrap=True)
    assert all(len(line) <= width for line in shown.splitlines() if "Not shown" not in line)
    table, left_out = shown.split("Not shown")
    assert "forgotten" in table and "93.81" in table and "…" not in table and "H-mean" in left_out
    assert "".join(line.split(" ")[0] for line in table.splitlines()[-4:]).endswith("erased_with_original_head")
    assert ("calibration" in table) == (width >= 62) and ("error" in left_out) == (width < 62)


def test_markdown_and_latex():
    made = Table(["ACC_f", Column("read by", words=True)], "method", "net_1: 100%")
    made.add("original", ["95.80 ± 1.20", None], ruled=True)
    made.add("a|b", ["0.00", "a & b"], bold=[0])
    made.add("tuned", [None, "c"], muted=True)
    assert made.to_markdown().splitlines() == [
        "| method | ACC_f | read by |",
        "|---|---|---|",
        "| original | 95.80 ± 1.20 | - |",
        r"| a\|b | **0.00** | a & b |",
        "| *tuned* | *-* | *c* |",
    ]
    assert made.to_latex().splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{net\_1: 100\%}",
        r"\begin{adjustbox}{max width=\linewidth}",
        r"\begin{tabular}{lrl}",
        r"\toprule",
        r"method & ACC\_f & read by \\",
        r"\midrule",
        r"original & 95.80 $\pm$ 1.20 & - \\",
        r"\midrule",
        r"a|b & \textbf{0.00} & a \& b \\",
        r"\rowcolor{gray!20} tuned & - & c \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        r"\end{table}",
    ]
