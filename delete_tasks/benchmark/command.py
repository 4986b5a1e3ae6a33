"""``delete-tasks benchmark GRID.py``."""

from __future__ import annotations

from types import SimpleNamespace

from ..cli.command import FILE, argument, command, data, evaluation, machine
from ..options import CFG_OPTIONS, DEVICE, VERBOSE, whole


@command(
    "benchmark",
    "Run a grid of networks, classes, methods and seeds.",
    argument("grid", type=FILE, metavar="GRID.py", help="The grid; it is Python, and is run."),
    data("--work-dir", type=FILE, required=True, help="Folder of the cells, the tables and the figures."),
    evaluation("--tables-only", is_flag=True, help="Run no cell; write tables and figures of those that are done."),
    evaluation("--cells-only", is_flag=True, help="Write no table and no figure: for one process of several."),
    data("--keep-models", is_flag=True, help="Leave each cell's run, with the erased model, in its folder."),
    machine(
        "--processes",
        type=whole(1, 1024),
        default=1,
        help="Cells at a time; with several GPUs each process gets one. The same command on another machine works, too, where "
        "both see the folder.",
    ),
    CFG_OPTIONS,
    DEVICE,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    """Carry the command out."""
    from ..config_file import parse_options
    from .run import run

    return run(args, parse_options(args.cfg_options))
