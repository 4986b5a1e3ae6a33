"""``delete-tasks segmentation forget|demo``."""

from __future__ import annotations

import os
from types import SimpleNamespace

from delete_tasks.cli.command import DATA, FILE, MACHINE, RECIPE, Group, argument, command, option
from delete_tasks.cli.device import use_device, use_launcher
from delete_tasks.cli.summary import tell_before, tell_next
from delete_tasks.options import (
    BATCH_SIZE,
    BY_NAME,
    CFG_OPTIONS,
    DEVICE,
    LAUNCHER,
    RATE,
    STEPS,
    VERBOSE,
    claim_work_dir,
    record_panel,
    seed,
    whole,
    work_dir_options,
)
from delete_tasks.terminal import make_console

# Options of `delete-tasks attention` for this task.
ATTENTION_OPTIONS = [
    option(
        "--config",
        panel=DATA,
        type=FILE,
        metavar="FILE",
        help="For segmentation: the MMSegmentation config of the models; data are then test, val, train, or (attention) images.",
    )
]


@command(
    "forget",
    "Make a model forget classes.",
    argument(
        "config",
        type=FILE,
        help="Any MMSegmentation config of the model, with or without `unlearn` in it. It is Python, and its code runs.",
    ),
    option("--checkpoint", panel=DATA, type=FILE, metavar="FILE", required=True, help="The model that is to forget."),
    option(
        "--classes",
        panel=DATA,
        many=True,
        metavar="NAME...",
        help=f"Classes to forget, {BY_NAME}. [default: the config's]",
    ),
    *work_dir_options("erased.pth, results.json, the record and before_after.png"),
    option("--steps", panel=RECIPE, type=STEPS, help="Optimizer steps. [default: the config's, or 200]"),
    option("--lr", panel=RECIPE, type=RATE, help="Of AdamW. [default: the config's, or 1e-4]"),
    option("--batch-size", panel=RECIPE, type=BATCH_SIZE, help="Images a step and process. [default: the config's]"),
    *record_panel(),
    CFG_OPTIONS,
    seed(None, "Of everything random. [default: the config's, or 0]"),
    LAUNCHER,
    DEVICE,
    option("--dry-run", panel=MACHINE, is_flag=True, help="Check everything, say what would happen, write nothing."),
    VERBOSE,
)
def forget(args: SimpleNamespace) -> int:
    use_device(args.device)
    use_launcher(args)
    from delete_tasks.config_file import parse_options
    from delete_tasks.record import record_options

    from .run import dry_run, make_config
    from .run import run as unlearn

    options = vars(args) | {"cfg_options": parse_options(args.cfg_options)}
    cfg = make_config(args.config, args.checkpoint, args.classes, args.work_dir, options)
    cfg.record = record_options(args)
    console = make_console()
    if args.dry_run:
        dry_run(cfg, console)
        return 0
    classes = cfg.unlearn.get("classes")
    with claim_work_dir(vars(args), [cfg.load_from], config=os.path.abspath(args.config), classes=classes):
        tell_before(console, args, classes or (), args.checkpoint, f"the training images of {args.config}", cfg.unlearn)
        results = unlearn(cfg, console)
    tell_next(console, args, args.checkpoint, results)
    return results["exit_status"]


@command(
    "demo",
    'Forget "car" on street scenes that the package draws; needs no data.',
    option("--out", panel=DATA, type=FILE, metavar="DIR", default="demo_output", help="Where scenes and results go."),
    option("--train-scenes", panel=DATA, type=whole(1, 100_000), default=200, help="Scenes to unlearn on."),
    option("--test-scenes", panel=DATA, type=whole(1, 100_000), default=60, help="Scenes to measure on."),
    option("--steps", panel=RECIPE, type=STEPS, help="Optimizer steps. [default: the config's]"),
    VERBOSE,
)
def demo(args: SimpleNamespace) -> None:
    from .demo.show import show

    show(args.out, args.train_scenes, args.test_scenes, args.steps, make_console())


COMMAND = Group(
    "segmentation",
    "Make an MMSegmentation model forget classes, and measure before and after.",
    [forget, demo],
    default="forget",
)
