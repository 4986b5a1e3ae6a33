"""``delete-tasks segmentation forget|evaluate|demo``."""

import os
from pathlib import Path
from types import SimpleNamespace

import click

from delete_tasks.cli import options as shared
from delete_tasks.cli.command import FILE, Group, Output, argument, command, data, evaluation, machine, recipe
from delete_tasks.display.terminal import make_console
from delete_tasks.report.finish import tell_before, tell_next

# Options of `delete-tasks attention` for this task.
ATTENTION_OPTIONS = [
    data(
        "--config",
        type=FILE,
        help="For segmentation: MMSegmentation config of the models; data are then test, val, train or (attention) images.",
    )
]


CONFIG = argument(
    "config", type=FILE, help="MMSegmentation config, with or without 'unlearn'. It is executed: use only trusted ones."
)
CLASSES = data(
    "--classes", many=True, metavar="NAME...", help=f"Classes to forget, {shared.BY_NAME}. [default: the config's]"
)
MEMORY = machine(
    "--memory",
    type=shared.number(0, 1e6, above=True),
    metavar="GB",
    help="Memory for images of more than 4 million pixels; if they take more, windows are read. [default: 80% of all]",
)


@command(
    "forget",
    "Make a model forget classes.",
    CONFIG,
    data("--checkpoint", type=FILE, required=True, help="Weights of the model."),
    CLASSES,
    *shared.work_dir_options("erased.pth, results.json, the record and before_after.png"),
    recipe(
        "--preset",
        type=click.Choice(["quick"]),
        help="Recipe in place of the config's (steps, schedule, optimizer, readout): quick is 100 steps at 1e-4, a first look.",
    ),
    shared.DEEP,
    recipe("--steps", type=shared.STEPS, help="Optimizer steps. [default: the config's, or 200]"),
    recipe("--lr", type=shared.RATE, help="AdamW learning rate. [default: the config's, or 1e-4]"),
    recipe("--batch-size", type=shared.BATCH_SIZE, help="Images per step and process. [default: the config's]"),
    shared.AVOID,
    shared.INTO,
    recipe(
        "--fill",
        type=click.Choice(["auto", "second", "surroundings"]),
        help="Classes that replace the forgotten ones: the original's second choice, its prediction of the pixels around, or its "
        "choice among these (auto). [default: the config's, or auto]",
    ),
    shared.amp("off"),
    evaluation("--no-evaluate", is_flag=True, help="Measure only the check of the forget set; read no test data."),
    shared.EXPECT,
    *shared.record_panel(),
    *shared.machine_panel("the config's, or 0"),
    MEMORY,
    short="--classes --overwrite --preset --deep --steps --lr --avoid --into --fill --expect --cfg-options --resume --device "
    "--dry-run",
)
def forget(args: SimpleNamespace) -> int:
    from delete_tasks.report.record.options import record_options
    from delete_tasks.request.classes import ForgetRequest
    from delete_tasks.request.config import declared_classes, parse_options, read_config

    record, cfg = record_options(args), read_config(args.config, parse_options(args.cfg_options))
    names = declared_classes(cfg, "mmseg", "delete_mmseg")
    classes = args.classes or (cfg.get("unlearn") or {}).get("classes")
    if names and isinstance(classes, list | tuple):  # checked again with the model, whose import takes seconds
        ForgetRequest(classes, avoid=args.avoid, into=args.into).resolve_expected(args.expect, names)
    from . import run

    cfg = run.make_config(cfg, args.checkpoint, args.classes, args.work_dir, vars(args))
    cfg.record = record | ({"evaluate": False, "audit": "none"} if args.no_evaluate else {})
    console = make_console()
    if args.dry_run:
        run.dry_run(cfg, console)
        return 0
    classes = cfg.unlearn.get("classes")
    with shared.claim_work_dir(vars(args), [cfg.load_from], config=os.path.abspath(args.config), classes=classes):
        tell_before(console, args, classes or (), args.checkpoint, f"the training images of {args.config}", cfg.unlearn)
        results = run.run(cfg, console)
    return tell_next(console, args, results)


@command(
    "evaluate",
    "Measure an erased model that is there already, e.g. of MMSegmentation's train.py.",
    CONFIG,
    data("--original", type=FILE, required=True, help="Weights of the original model."),
    data("--erased", type=FILE, required=True, help="Weights of the erased model."),
    CLASSES,
    *shared.work_dir_options("results.json, the record and before_after.png", resumes=False),
    shared.EXPECT,
    *shared.record_panel(),
    shared.CFG_OPTIONS,
    MEMORY,
    shared.DEVICE,
    shared.VERBOSE,
)
def evaluate(args: SimpleNamespace) -> int:
    from delete_tasks.report.record.options import record_options
    from delete_tasks.request.config import parse_options, read_config

    record, cfg = record_options(args), read_config(args.config, parse_options(args.cfg_options))
    from . import run

    cfg = run.make_config(cfg, args.original, args.classes, args.work_dir, {"memory": args.memory})
    cfg.record = record
    console, config, classes = make_console(), os.path.abspath(args.config), cfg.unlearn.get("classes")
    with shared.claim_work_dir(vars(args), [args.original, args.erased], config=config, classes=classes) as work:
        results = run.evaluate(cfg, args.erased, work, console)
    return tell_next(console, args, results)


AFTER_DEMO = r"""
Your own model takes the same command:

    delete-tasks segmentation forget YOUR_CONFIG.py --checkpoint YOUR_MODEL.pth \
        --classes car --work-dir work_dirs/forget-car

or, with MMSegmentation's own train.py, these lines at the end of its config:

    custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)
    runner_type = 'UnlearnRunner'
    load_from = 'YOUR_MODEL.pth'
    unlearn = dict(type='DELETE', classes=['car'])
"""


@command(
    "demo",
    'Forget "car" on street scenes that the package draws; needs no data.',
    data("--out", type=Output("DIR"), default="demo_output", help="Output folder of scenes and results."),
    shared.overwrite("an earlier demonstration"),
    data("--train-scenes", type=shared.whole(1, 100_000), default=200, help="Scenes to unlearn on."),
    data("--test-scenes", type=shared.whole(1, 100_000), default=60, help="Scenes to measure on."),
    recipe("--steps", type=shared.STEPS, help="Optimizer steps. [default: the config's]"),
    shared.VERBOSE,
)
def demo(args: SimpleNamespace) -> None:
    from delete_tasks import config_path
    from delete_tasks.display.terminal import begin_stage

    from .demo.scenes import write_scenes
    from .run import make_config, run

    console, scenes, work_dir = make_console(), Path(args.out, "scenes"), Path(args.out, "erased")
    train, test = args.train_scenes, args.test_scenes
    console.print(f"Draws {train} + {test} street scenes in Cityscapes' layout into {scenes}.")
    console.print(f"Unlearns car from a small network on them; writes into {work_dir}.")
    begin_stage("checks")
    # Not seed 0: the learning rate in the config was chosen on the scenes of that seed, so they cannot test it.
    write_scenes(scenes, train=train, val=test, seed=5)
    changes = {f"{split}_dataloader.dataset.data_root": str(scenes) for split in ("train", "test")}
    options = {"steps": args.steps, "cfg_options": {**changes, "unlearn.overwrite": args.overwrite}}
    config = str(config_path("segmentation/demo_street-scenes_forget-car.py"))
    checkpoint = str(Path(__file__).with_name("demo") / "street_scenes.pth")
    run(make_config(config, checkpoint, [], str(work_dir), options), console)
    console.print(AFTER_DEMO)


COMMAND = Group(
    "segmentation",
    "Make an MMSegmentation model forget classes, and measure before and after.",
    [forget, evaluate, demo],
    default="forget",
)
