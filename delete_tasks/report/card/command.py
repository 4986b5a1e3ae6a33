"""Command ``delete-tasks card``."""

from types import SimpleNamespace

from ...cli.command import MODEL_FOLDER, Output, argument, command, data
from ...cli.options import overwrite
from ...errors import require
from ...fileio.atomic import refuse_existing


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
def COMMAND(args: SimpleNamespace) -> None:
    require("huggingface_hub", "hub")
    out = refuse_existing(args.out, args.reads, args.overwrite)
    from .card import write_card

    write_card(vars(args), out)
