"""``delete-tasks audit``."""

from __future__ import annotations

from types import SimpleNamespace

import click

from ..attention.command import plugin_options
from ..cli.command import DATA, EVALUATION, FILE, command, option
from ..cli.device import use_device
from ..options import ALLOW_IMPORT, BY_NAME, DEVICE, VERBOSE, claim_work_dir, work_dir_options
from ..terminal import make_console


@command(
    "audit",
    "Try to read a forgotten class out of a model.",
    option("--original", panel=DATA, type=FILE, metavar="MODEL", required=True, help="The model before."),
    option("--erased", panel=DATA, type=FILE, metavar="MODEL", required=True, help="The model after."),
    option(
        "--retrained",
        panel=DATA,
        type=FILE,
        many=True,
        metavar="MODEL...",
        help="Models that never saw the classes, for the depth.",
    ),
    option(
        "--forget",
        panel=DATA,
        type=FILE,
        required=True,
        metavar="DATA",
        help="Training samples of the classes, as the task's command takes them.",
    ),
    option(
        "--data",
        panel=DATA,
        type=FILE,
        metavar="DATA",
        help="Labelled training samples of all classes: what an attacker has. Where they show no forgotten class, the forget set "
        "joins them.",
    ),
    option("--test", panel=DATA, type=FILE, metavar="DATA", help="Held-out samples, which attacks are asked about."),
    option(
        "--classes",
        panel=DATA,
        many=True,
        metavar="NAME...",
        help=f"The classes that were forgotten, {BY_NAME}. [default: those that --forget shows]",
    ),
    option("--task", panel=DATA, metavar="TASK", help="Whose models these are. [default: found out]"),
    *plugin_options(),
    *work_dir_options("audit.json, audit.png and tsne.png", resumes=False),
    option(
        "--level",
        panel=EVALUATION,
        type=click.Choice(["quick", "full"]),
        default="quick",
        help="quick: the attacks that take little time; full: all.",
    ),
    option(
        "--scores",
        panel=EVALUATION,
        type=FILE,
        metavar="FILE",
        help="An .npz of shadow models' scores (shadow, member, target, is_member), for LiRA's curve.",
    ),
    option("--wide", panel=EVALUATION, is_flag=True, help="Print every column, as wide as it needs."),
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def COMMAND(args: SimpleNamespace) -> int:
    """Carry the command out."""
    use_device(args.device)
    from .run import open_source, run
    from .score_tables import likelihood_ratios, read_table

    table = None if args.scores is None else read_table(args.scores)
    if table is not None:
        likelihood_ratios(table)  # what it refuses, it refuses now
    options = vars(args)
    models = [args.original, args.erased, *args.retrained]
    data = {"forget": args.forget, "train": args.data, "test": args.test}
    with claim_work_dir(options, models, data=data, classes=args.classes, level=args.level):
        task, source = open_source(options, data)
        run(task, source, options, data, table, make_console())
    return 0
