"""``delete-tasks audit``."""

from __future__ import annotations

from types import SimpleNamespace

import click

from ..attention.command import plugin_options
from ..cli.command import DATA_SET, MODEL_FOLDER, File, command, data, evaluation
from ..options import ALLOW_IMPORT, BY_NAME, DEVICE, VERBOSE, claim_work_dir, work_dir_options
from ..terminal import make_console


@command(
    "audit",
    "Try to read a forgotten class out of a model.",
    data("--original", type=MODEL_FOLDER, required=True, help="The model before."),
    data("--erased", type=MODEL_FOLDER, required=True, help="The model after."),
    data(
        "--retrained",
        type=File("MODEL..."),
        many=True,
        help="Models that never saw the classes, for the depth.",
    ),
    data("--head-only", type=MODEL_FOLDER, help="The model with its last layer alone changed: a row to compare with."),
    data(
        "--forget",
        type=DATA_SET,
        required=True,
        help="Training samples of the classes, as the task's command takes them.",
    ),
    data(
        "--data",
        type=DATA_SET,
        help="Labelled training samples of all classes: what an attacker has. Where they show no forgotten class, the forget set "
        "joins them.",
    ),
    data("--test", type=DATA_SET, help="Held-out samples, which attacks are asked about."),
    data(
        "--classes",
        many=True,
        metavar="NAME...",
        help=f"The classes that were forgotten, {BY_NAME}. [default: those that --forget shows]",
    ),
    data("--task", metavar="TASK", help="Whose models these are. [default: found out]"),
    *plugin_options(),
    *work_dir_options("audit.json, audit.md, audit.png and tsne.png", resumes=False),
    evaluation(
        "--level",
        type=click.Choice(["quick", "full"]),
        default="quick",
        help="quick: the attacks that take little time; full: all.",
    ),
    evaluation("--wide", is_flag=True, help="Print every column, as wide as it needs."),
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    """Carry the command out."""
    from .run import open_source, run

    options = vars(args)
    models = [args.original, args.erased, *args.retrained, *filter(None, [args.head_only])]
    texts = {"forget": args.forget, "train": args.data, "test": args.test}
    with claim_work_dir(options, models, data=texts, classes=args.classes, level=args.level):
        task, source = open_source(options, texts)
        run(task, source, options, texts, make_console())
    return 0
