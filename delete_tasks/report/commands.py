"""Commands ``delete-tasks card``, ``compare`` and ``export``."""

import os
from types import SimpleNamespace

from ..cli.command import DATA_SET, DIR, MODEL_FOLDER, OUT, Output, argument, command, data, evaluation
from ..cli.options import ALLOW_IMPORT, BY_NAME, overwrite, plugin_options
from ..errors import require
from ..fileio.atomic import refuse_existing


@command(
    "card",
    "Write a run's model with its card and record as a folder for the Hugging Face Hub.",
    argument("model", type=MODEL_FOLDER, metavar="MODEL", help="Work dir of a finished run, or the model in it."),
    data("--out", type=Output("DIR"), required=True, help="Folder to write."),
    data("--base-model", metavar="ID", help="The original's name on the Hub."),
    data("--dataset", metavar="ID", help="The test data's name on the Hub."),
    data("--license", metavar="ID", help="License of the erased model, e.g. apache-2.0."),
    overwrite("an earlier card"),
)
def card(args: SimpleNamespace) -> None:
    require("huggingface_hub", "hub")
    out = refuse_existing(args.out, args.reads, args.overwrite)
    from .card import write_card

    write_card(vars(args), out)


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
def compare(args: SimpleNamespace) -> int:
    from ..display.terminal import make_console
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


@command(
    "export",
    "Write a model as an ONNX file that gives the same outputs.",
    argument("model", type=MODEL_FOLDER, metavar="MODEL", help="Work dir of a run, model folder, or checkpoint."),
    data("--onnx", type=OUT, required=True, help="File to write (.onnx), with a receipt beside it (.onnx.json)."),
    data("--data", type=DATA_SET, help="Samples to compare on, for the task's commands. [default: the record's]"),
    data("--classes", many=True, metavar="NAME...", help=f"Forgotten classes, {BY_NAME}. [default: the record's]"),
    data("--drop-output", is_flag=True, help="Leave out the outputs of the forgotten classes."),
    data("--task", metavar="TASK", help="Task of the model. [default: detected]"),
    *plugin_options(),
    overwrite("an existing file and its receipt"),
    ALLOW_IMPORT,
)
def export(args: SimpleNamespace) -> None:
    out = refuse_existing(args.onnx, args.reads, args.overwrite, ".onnx")
    receipt = refuse_existing(f"{out}.json", args.reads, args.overwrite)
    require("onnxscript", "export")
    from .export import export

    export(vars(args), out, receipt)
