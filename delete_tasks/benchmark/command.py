"""Command ``delete-tasks benchmark GRID.py``."""

from types import SimpleNamespace

from ..cli.command import FILE, Output, argument, command, data, evaluation, machine
from ..cli.options import CFG_OPTIONS, DEVICE, VERBOSE, whole


@command(
    "benchmark",
    "Run a grid of networks, classes, methods and seeds.",
    argument("grid", type=FILE, metavar="GRID.py", help="Grid config. It is executed: use only configs you trust."),
    data("--work-dir", type=Output("DIR"), required=True, help="Output folder of cells, tables and figures."),
    evaluation("--tables-only", is_flag=True, help="Run no cell; write tables and figures of the finished cells."),
    evaluation("--cells-only", is_flag=True, help="Write no tables and figures, as one of several processes."),
    data("--keep-models", is_flag=True, help="Keep each cell's run, with the erased model, in its folder."),
    machine(
        "--processes",
        type=whole(1, 1024),
        default=1,
        help="Cells to run at a time, each on its own GPU if there are several. Machines that share the folder can run the same "
        "command.",
    ),
    CFG_OPTIONS,
    DEVICE,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    from .run import run

    return run(args)
