"""``delete-tasks audit``."""

from __future__ import annotations

from types import SimpleNamespace

import click

from ..attention.command import plugin_options
from ..cli.command import DATA_SET, FILE, MODEL_FOLDER, File, command, data, evaluation
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
    evaluation(
        "--scores",
        type=FILE,
        help="An .npz of shadow models' scores (shadow, member, target, is_member), for LiRA's curve.",
    ),
    evaluation("--wide", is_flag=True, help="Print every column, as wide as it needs."),
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    """Carry the command out."""
    from .run import open_source, run
    from .score_tables import likelihood_ratios, read_table

    table = None if args.scores is None else read_table(args.scores)
    if table is not None:
        likelihood_ratios(table)  # what it refuses, it refuses now
    options = vars(args)
    models = [args.original, args.erased, *args.retrained, *filter(None, [args.head_only])]
    texts = {"forget": args.forget, "train": args.data, "test": args.test}
    with claim_work_dir(options, models, data=texts, classes=args.classes, level=args.level):
        task, opened = open_source(options, texts)
        run(task, opened, options, texts, table, make_console())
    return 0
