"""Tables fit the terminal: no header is cut, no column or row holds nothing, and what is left out is said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from delete_tasks.evaluation.table import show_table

COLUMNS = [
    ("forgotten", False),
    ("others", False),
    ("empty", False),
    ("calibration error", False),
    ("H-mean", True),
]
ROWS = {
    "original": ["95.80", "93.60", None, "4.10", "0.00"],
    "erased_with_original_head": ["0.00", "93.81", None, None, "94.80"],
    "retrained": [None, None, None, None, None],
}


def text(width: int, wide: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    show_table(console, "Forgetting [/deer]", COLUMNS, ROWS, wide)
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
    console = Console(width=80, file=io.StringIO(), record=True)
    show_table(console, "Removing Bo: percent of held-out photos", COLUMNS, {"erased": [None] * len(COLUMNS)})
    assert console.export_text() == ""
