"""``delete-tasks backdoor clean|find|poison``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from delete_tasks.cli.command import DATA, EVALUATION, FILE, RECIPE, Group, command, option
from delete_tasks.cli.device import use_device, use_launcher
from delete_tasks.cli.summary import tell_before, tell_next
from delete_tasks.options import (
    ALLOW_IMPORT,
    BATCH_SIZE,
    BY_NAME,
    DEVICE,
    LAUNCHER,
    NORM_TRAIN,
    RATE,
    SHARE,
    STEPS,
    TEACHER_TEMPERATURE,
    TEMPERATURE,
    VERBOSE,
    claim_work_dir,
    config,
    number,
    overwrite,
    record_panel,
    seed,
    whole,
    work_dir_options,
)
from delete_tasks.outputs import refuse_existing
from delete_tasks.terminal import make_console

DATA_HELP = "a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]; ?class=deer&limit=500 choose"
TRIGGER_HELP = (
    "badnets:size=3,pos=28,28 | grid:pos=29,29 | blended:image=FILE,alpha=0.2 | sig:delta=20,f=6 | trojan:image=FILE | "
    "l0:image=FILE,mask=FILE | l2:image=FILE | wanet:k=4,s=0.5"
)


# Options of `delete-tasks attention` for this task, which puts a trigger on clean INPUTS.
ATTENTION_OPTIONS = [
    option(
        "--trigger",
        panel=DATA,
        metavar="SPEC",
        help=f"For backdoor: put on each image; its pixels are the region: {TRIGGER_HELP}.",
    )
]


@command(
    "clean",
    "Take a backdoor out of a model.",
    config("--model and --poisoned"),
    option("--model", panel=DATA, type=FILE, metavar="MODEL", help="Folder of the backdoored model."),
    option(
        "--poisoned",
        panel=DATA,
        type=FILE,
        metavar="DATA",
        help=f"Samples that contain the trigger, or a ranking that find wrote (.json): {DATA_HELP}.",
    ),
    option(
        "--target",
        panel=DATA,
        metavar="NAME",
        help=f"The attacker's class, {BY_NAME}. [default: what most poisoned samples are predicted as]",
    ),
    option(
        "--retain",
        "clean",
        panel=DATA,
        type=FILE,
        metavar="DATA",
        help="A few hundred samples of all classes without a trigger, on which the model is to stay as it is: recommended. "
        "Without them (strict mode) it is kept by trigger-free views of the poisoned samples, which show nothing of the target "
        "class; docs/benchmarks/backdoor.md says what that costs.",
    ),
    *work_dir_options("cleaned/, results.json, the record and backdoor.png"),
    option(
        "--force",
        panel=DATA,
        is_flag=True,
        help="Go on with samples that do not look poisoned; write the model whatever the verdict.",
    ),
    option(
        "--steps",
        panel=RECIPE,
        type=STEPS,
        help="Optimizer steps. [default: 200; at most 100 in strict mode, which stops]",
    ),
    option(
        "--lr",
        panel=RECIPE,
        type=RATE,
        help="Of AdamW. [default: 1e-3, less for more than 300,000 parameters: 6e-5 for a ResNet-18]",
    ),
    option(
        "--batch-size",
        panel=RECIPE,
        type=BATCH_SIZE,
        help="Poisoned samples a step; each brings --retain-each samples of --retain.",
    ),
    option(
        "--retain-each",
        "clean_each",
        panel=RECIPE,
        type=whole(0, 10_000),
        help="Samples of --retain beside each poisoned one.",
    ),
    option("--mix", panel=RECIPE, type=SHARE, help="Share of the --retain samples that are mixtures of two."),
    option(
        "--trigger-patches",
        "carriers",
        panel=RECIPE,
        type=SHARE,
        help="Share of the --retain samples that have a piece of a poisoned one pasted on them and are still to be predicted as "
        "before. For a trigger that covers a part of the image; see docs/guides/backdoor.md. [default: 0]",
    ),
    option(
        "--held-out",
        "held",
        panel=RECIPE,
        type=number(0, 1, below=True),
        help="Share of samples that are set aside for the watch.",
    ),
    option("--views", panel=RECIPE, type=whole(1, 10_000), help="Views tried for each poisoned sample in strict mode."),
    option(
        "--second-choice",
        "forgetting_only",
        panel=RECIPE,
        is_flag=True,
        flag_value=False,
        default=None,
        help="Distil poisoned samples to the original's second choice, as the paper does. By default the target is taken away "
        "from them and nothing else is taught.",
    ),
    TEACHER_TEMPERATURE,
    option(
        "--temperature",
        panel=RECIPE,
        type=TEMPERATURE,
        help="What both models' logits are divided by. [default: 4; 1 in strict mode]",
    ),
    option(
        "--schedule",
        panel=RECIPE,
        type=click.Choice(["constant", "cosine"]),
        help="Of the learning rate. [default: cosine; rising in strict mode]",
    ),
    NORM_TRAIN,
    option(
        "--test",
        panel=EVALUATION,
        type=FILE,
        metavar="DATA",
        help="Test images without a trigger, for the table.",
    ),
    option(
        "--trigger",
        panel=EVALUATION,
        metavar="SPEC",
        help=f"Put on the test images, for ASR and RA: {TRIGGER_HELP}.",
    ),
    option(
        "--compare", panel=EVALUATION, is_flag=True, help="Make the other rows of the table, too; takes as long again."
    ),
    option("--wide", panel=EVALUATION, is_flag=True, help="Print every column of the table."),
    *record_panel(),
    seed(None, "Of everything random. [default: 0]"),
    LAUNCHER,
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def clean(args: SimpleNamespace) -> int:
    use_device(args.device)
    use_launcher(args)
    from delete_tasks.record import record_options

    from . import clean, config

    console = make_console()
    options: dict[str, Any] = vars(args)
    cfg = config.make_config(args.config, options, console)
    cfg.record = record_options(args)
    data, model = cfg.train_dataloader.dataset, args.model or Path(cfg.load_from).parent
    with claim_work_dir(options, [model], target=data.target, data=data.poisoned):
        who = [f"the backdoor to {data.target}"]
        tell_before(console, args, who, model, data.poisoned, cfg.unlearn)
        results = clean.run(cfg, clean.EvaluationOptions(args.test, args.trigger, args.compare, args.wide), console)
    tell_next(console, args, model, results)
    return 0 if results is None else results["exit_status"]


@command(
    "find",
    "Rank a training set by how poisoned its samples look.",
    option(
        "--model",
        panel=DATA,
        type=FILE,
        metavar="MODEL",
        required=True,
        help="Folder of the model that was trained on the data.",
    ),
    option(
        "--data",
        panel=DATA,
        type=FILE,
        required=True,
        metavar="DATA",
        help=f"The training set with its labels: {DATA_HELP}.",
    ),
    option("--out", panel=DATA, type=FILE, required=True, metavar="FILE", help="Where the ranking goes (.json)."),
    overwrite("a file that is there"),
    option(
        "--flag",
        panel=RECIPE,
        type=click.Choice(["smaller", "larger"]),
        help="Flag this cluster of the suspicious class, after looking at both. [default: as the evidence says]",
    ),
    DEVICE,
    ALLOW_IMPORT,
)
def find(args: SimpleNamespace) -> None:
    use_device(args.device)
    from . import find

    for path in (args.out, find.picture_path(args.out)):
        refuse_existing(path, [args.data.partition("?")[0], *Path(args.model).glob("*")], args.overwrite)
    find.run(args.model, args.data, args.out, make_console(), args.allow_import, args.flag)


@command(
    "poison",
    "Write a poisoned copy of a data set.",
    option("--data", panel=DATA, type=FILE, required=True, metavar="DATA", help=f"The data set: {DATA_HELP}."),
    option("--trigger", panel=RECIPE, required=True, metavar="SPEC", help=f"{TRIGGER_HELP}."),
    option("--target", panel=RECIPE, required=True, metavar="NAME", help=f"The attacker's class, {BY_NAME}."),
    option(
        "--rate",
        panel=RECIPE,
        type=number(0, 1, above=True),
        default=0.1,
        help="Share of all images that are poisoned.",
    ),
    option(
        "--clean-label", panel=RECIPE, is_flag=True, help="Poison images of the target class, keep their labels (SIG)."
    ),
    seed(0, "Of the choice."),
    option("--out", panel=DATA, type=FILE, required=True, metavar="FILE", help="Where the poisoned data go (.npz)."),
    overwrite("a file that is there"),
)
def poison(args: SimpleNamespace) -> None:
    from delete_images.data import open_data
    from delete_tasks.masking import resolve_classes

    from .outputs import check_output
    from .poison import PoisonedDataset
    from .triggers import parse_trigger

    check_output(args.out, ".npz", "poisoned data are", [args.data])
    refuse_existing(args.out, [], args.overwrite)
    trigger = parse_trigger(args.trigger)
    data = open_data(args.data, "train")
    (target,) = resolve_classes([args.target], data.class_names)
    poisoned = PoisonedDataset(data, trigger, target, args.rate, args.seed, args.clean_label)
    path = poisoned.save(args.out, [args.data])
    console = make_console()
    console.print(
        f"{int(poisoned.poisoned.sum())} of {len(poisoned)} images carry '{args.trigger}' and are labelled "
        f"'{data.class_names[target]}'."
    )
    console.print(f"Written: {path}. Train on it with: delete-tasks images train --data {path} ...")


COMMAND = Group(
    "backdoor",
    "Find the poison of a backdoored classifier, and clean the model.",
    [clean, find, poison],
)
