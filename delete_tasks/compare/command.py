"""``delete-tasks compare W1 W2 ...``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from .picture import check_out, draw
from .runs import RESULTS, read_runs
from .table import heading, notes, tabulate

DESCRIPTION = "Print runs side by side, before and after, and draw what was forgotten beside what was kept."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="DIR", help=f"work dirs of runs, of any tasks ({RESULTS} in each)")
    parser.add_argument("--out", default="compare.png", help="the picture (default: compare.png)")
    parser.add_argument("--wide", action="store_true", help="all columns, as wide as they need")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    out = Path(args.out)
    check_out(out)
    runs = read_runs(args.runs)
    groups = [(task, [one for one in runs if one.task == task]) for task in dict.fromkeys(one.task for one in runs)]
    tables = [(heading(task, own), tabulate(own, args.wide), notes(own)) for task, own in groups]
    draw(out, groups)
    width = 200 if args.wide else None if os.isatty(1) else 80
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    for title, table, lines in tables:
        console.print(title)
        console.print(table)
        for line in lines:
            console.print(line)
    console.print(f"Written: {out}", soft_wrap=True)
    return 0
