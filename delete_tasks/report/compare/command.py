"""Command ``delete-tasks compare W1 W2 ...``."""

import os
from types import SimpleNamespace

from ...cli.command import DIR, argument, command, evaluation


@command(
    "compare",
    "Print runs side by side.",
    argument(
        "runs",
        nargs=-1,
        required=True,
        type=DIR,
        metavar="DIR...",
        help="Work dirs of runs (results.json in each), of any tasks.",
    ),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
)
def COMMAND(args: SimpleNamespace) -> int:
    from ...display.terminal import make_console
    from .compare import notes, read_runs, tabulate

    runs = read_runs(args.runs)
    console = make_console(width=200 if args.wide else None if os.isatty(1) else 80)
    for number, task in enumerate(dict.fromkeys(run.task for run in runs)):
        group = [run for run in runs if run.task == task]
        if number:
            console.print()
        tabulate(group, args.wide).show(console, args.wide, wrap=True, hint="--wide shows them")
        for line in notes(group):
            console.print(line)
    return 0
