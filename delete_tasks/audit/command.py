"""Command ``delete-tasks audit``."""

from types import SimpleNamespace

import click

from ..cli.command import DATA_SET, MODEL_FOLDER, File, command, data, evaluation
from ..cli.options import ALLOW_IMPORT, BY_NAME, DEVICE, VERBOSE, claim_work_dir, plugin_options, work_dir_options


@command(
    "audit",
    "Try to read a forgotten class from a model.",
    data("--original", type=MODEL_FOLDER, required=True, help="Original model (folder or checkpoint)."),
    data(
        "--erased",
        type=File("MODEL..."),
        many=True,
        required=True,
        help="Erased models; the first has the verdict's depth.",
    ),
    data("--retrained", type=File("MODEL..."), many=True, help="Models trained without the classes, for the depth."),
    data("--head-only", type=MODEL_FOLDER, help="Model with only its last layer changed: a row to compare with."),
    data("--forget", type=DATA_SET, required=True, help="Training samples of the classes, in a task command's format."),
    data(
        "--data",
        type=DATA_SET,
        help="Labelled training samples of all classes, to train attacks on. If they lack the forgotten classes, --forget "
        "is added.",
    ),
    data("--test", type=DATA_SET, help="Held-out samples that the attacks classify."),
    data("--classes", many=True, metavar="NAME...", help=f"Forgotten classes, {BY_NAME}. [default: those of --forget]"),
    data("--task", metavar="TASK", help="Task of the models. [default: detected]"),
    *plugin_options(),
    *work_dir_options("audit.json, audit.md and pictures", resumes=False),
    evaluation(
        "--level",
        type=click.Choice(["quick", "full"]),
        default="quick",
        help="Attacks: quick (those that take little time) or full (all).",
    ),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    from .run import run

    options = vars(args)
    models = [args.original, *args.erased, *args.retrained, *filter(None, [args.head_only])]
    texts = {"forget": args.forget, "train": args.data, "test": args.test}
    with claim_work_dir(options, models, data=texts, classes=args.classes, level=args.level) as work:
        run(options, texts, work)
    return 0
