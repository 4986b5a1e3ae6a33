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
    groups = [(task, [run for run in runs if run.task == task]) for task in dict.fromkeys(run.task for run in runs)]
    tables = [(tabulate(group, args.wide), notes(group)) for _, group in groups]
    width = 200 if args.wide else None if os.isatty(1) else 80
    console = make_console(width=width)
    for number, (table, lines) in enumerate(tables):
        if number:
            console.print()
        table.show(console, args.wide, wrap=True, hint="--wide shows them")
        for line in lines:
            console.print(line)
    return 0
