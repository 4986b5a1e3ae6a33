"""Command ``delete-tasks export``."""

from types import SimpleNamespace

from ...cli.command import DATA_SET, MODEL_FOLDER, OUT, argument, command, data
from ...cli.options import ALLOW_IMPORT, BY_NAME, overwrite, plugin_options
from ...errors import require
from ...fileio.atomic import refuse_existing


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
def COMMAND(args: SimpleNamespace) -> None:
    out = refuse_existing(args.onnx, args.reads, args.overwrite, ".onnx")
    receipt = refuse_existing(f"{out}.json", args.reads, args.overwrite)
    require("onnxscript", "export")
    from .export import export

    export(vars(args), out, receipt)
