"""``delete-tasks backdoor clean|find|poison``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from delete_tasks import options as shared
from delete_tasks.atomic import refuse_existing
from delete_tasks.cli.command import DATA_SET, FILE, MODEL_FOLDER, Group, command, data, evaluation, recipe
from delete_tasks.finish import tell_before, tell_next
from delete_tasks.schedules import SCHEDULES
from delete_tasks.terminal import make_console

from .grammar import trigger_table, trigger_usages

DATA_HELP = "a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]; ?class=deer&limit=500 choose"
# Options of `delete-tasks attention` for this task, which puts a trigger on clean INPUTS.
ATTENTION_OPTIONS = [
    data(
        "--trigger",
        metavar="SPEC",
        help=lambda: f"For backdoor: put on each image; its pixels are the region: {trigger_usages()}.",
    )
]


@command(
    "clean",
    "Take a backdoor out of a model.",
    shared.config("--model and --poisoned"),
    data("--model", type=MODEL_FOLDER, help="Folder of the backdoored model."),
    data(
        "--poisoned",
        type=DATA_SET,
        help=f"Samples that contain the trigger, or a ranking that find wrote (.json): {DATA_HELP}.",
    ),
    data(
        "--target",
        metavar="NAME",
        help=f"The attacker's class, {shared.BY_NAME}. [default: what most poisoned samples are predicted as]",
    ),
    data(
        "--retain",
        type=DATA_SET,
        help="A few hundred samples of all classes without a trigger, on which the model is to stay as it is: recommended. "
        "Without them (strict mode) it is kept by trigger-free views of the poisoned samples, which show nothing of the target "
        "class; docs/benchmarks/backdoor.md says what that costs.",
    ),
    *shared.work_dir_options("cleaned/, results.json, the record and backdoor.png"),
    data(
        "--force",
        is_flag=True,
        help="Go on with samples that do not look poisoned; write the model whatever the verdict.",
    ),
    recipe(
        "--steps", type=shared.STEPS, help="Optimizer steps. [default: 200; at most 100 in strict mode, which stops]"
    ),
    recipe(
        "--lr",
        type=shared.RATE,
        help="Of AdamW. [default: 1e-3, less for more than 300,000 parameters: 6e-5 for a ResNet-18]",
    ),
    recipe(
        "--batch-size",
        type=shared.BATCH_SIZE,
        help="Poisoned samples a step; each brings --retain-each samples of --retain. [default: 10; 8 in strict mode]",
    ),
    recipe(
        "--retain-each",
        type=shared.whole(0, 10_000),
        help="Samples of --retain beside each poisoned one. [default: 11; 7 views in strict mode]",
    ),
    recipe(
        "--mix",
        type=shared.SHARE,
        help="Share of the --retain samples that are mixtures of two. [default: 1, all of them]",
    ),
    recipe(
        "--trigger-patches",
        type=shared.SHARE,
        help="Share of the --retain samples that have a piece of a poisoned one pasted on them and are still to be predicted as "
        "before. For a trigger that covers a part of the image; see docs/guides/backdoor.md. [default: 0]",
    ),
    recipe(
        "--held-out",
        "held",
        type=shared.number(0, 1, below=True),
        help="Share of samples that are set aside for the watch. [default: 0.2]",
    ),
    recipe(
        "--views",
        type=shared.whole(1, 10_000),
        help="Views tried for each poisoned sample in strict mode. [default: 8]",
    ),
    recipe(
        "--second-choice",
        "forgetting_only",
        is_flag=True,
        flag_value=False,
        default=None,
        help="Distil poisoned samples to the original's second choice, as the paper does. By default the target is taken away "
        "from them and nothing else is taught.",
    ),
    shared.TEACHER_TEMPERATURE,
    recipe(
        "--temperature",
        type=shared.TEMPERATURE,
        help="What both models' logits are divided by. [default: 4; 1 in strict mode]",
    ),
    recipe(
        "--schedule",
        type=click.Choice(SCHEDULES),
        help="Of the learning rate. [default: cosine; rising in strict mode]",
    ),
    shared.NORM_TRAIN,
    evaluation("--test", type=DATA_SET, help="Test images without a trigger, for the table."),
    evaluation(
        "--trigger", metavar="SPEC", help=lambda: f"Put on the test images, for ASR and RA: {trigger_usages()}."
    ),
    evaluation("--compare", is_flag=True, help="Make the other rows of the table, too; takes as long again."),
    evaluation("--wide", is_flag=True, help="Print every column of the table."),
    *shared.record_panel(),
    shared.seed(None, "Of everything random. [default: 0]"),
    shared.LAUNCHER,
    shared.DEVICE,
    shared.ALLOW_IMPORT,
    shared.VERBOSE,
)
def clean(args: SimpleNamespace) -> int:
    from delete_tasks.record import record_options

    from . import clean, config

    console = make_console()
    options: dict[str, Any] = vars(args)
    cfg = config.make_config(args.config, options, console)
    cfg.record = record_options(args)
    data, model = cfg.train_dataloader.dataset, args.model or Path(cfg.load_from).parent
    with shared.claim_work_dir(options, [model], target=data.target, data=data.poisoned):
        who = [f"the backdoor to {data.target}"]
        tell_before(console, args, who, model, data.poisoned, cfg.unlearn)
        results = clean.run(cfg, args, console)
    tell_next(console, args, model, results)
    return 0 if results is None else results["exit_status"]


@command(
    "find",
    "Rank a training set by how poisoned its samples look.",
    data("--model", type=MODEL_FOLDER, required=True, help="Folder of the model that was trained on the data."),
    data("--data", type=DATA_SET, required=True, help=f"The training set with its labels: {DATA_HELP}."),
    data("--out", type=FILE, required=True, help="Where the ranking goes (.json)."),
    shared.overwrite("a file that is there"),
    recipe(
        "--flag",
        type=click.Choice(["smaller", "larger"]),
        help="Flag this cluster of the suspicious class, after looking at both. [default: as the evidence says]",
    ),
    shared.DEVICE,
    shared.ALLOW_IMPORT,
)
def find(args: SimpleNamespace) -> None:
    from . import find
    from .poison import files_of

    inputs: list[Any] = [*files_of([args.data]), *Path(args.model).glob("*")]
    refuse_existing(args.out, inputs, args.overwrite, suffix=".json")
    refuse_existing(find.picture_path(args.out), inputs, args.overwrite)
    find.run(args.model, args.data, args.out, make_console(), args.allow_import, args.flag)


@command(
    "poison",
    "Write a poisoned copy of a data set.",
    data("--data", type=DATA_SET, required=True, help=f"The data set: {DATA_HELP}."),
    recipe("--trigger", required=True, metavar="SPEC", help=lambda: f"What is put on images:\n\n{trigger_table()}"),
    recipe("--target", required=True, metavar="NAME", help=f"The attacker's class, {shared.BY_NAME}."),
    recipe("--rate", type=shared.number(0, 1, above=True), default=0.1, help="Share of all images that are poisoned."),
    recipe("--clean-label", is_flag=True, help="Poison images of the target class, keep their labels (SIG)."),
    shared.seed(0, "Of the choice."),
    data("--out", type=FILE, required=True, help="Where the poisoned data go (.npz)."),
    shared.overwrite("a file that is there"),
)
def poison(args: SimpleNamespace) -> None:
    from delete_images.data import open_data
    from delete_tasks.masking import resolve_classes

    from .poison import PoisonedDataset, files_of
    from .triggers import parse_trigger

    refuse_existing(args.out, files_of([args.data]), args.overwrite, suffix=".npz")
    trigger = parse_trigger(args.trigger)
    data = open_data(args.data, "train")
    (target,) = resolve_classes([args.target], data.class_names)
    poisoned = PoisonedDataset(data, trigger, target, args.rate, args.seed, args.clean_label)
    path = poisoned.save(args.out, [args.data])
    console = make_console()
    console.print(
        f"{int(poisoned.poisoned.sum())} of {len(poisoned)} images contain '{args.trigger}' and are labelled "
        f"'{data.class_names[target]}'."
    )
    console.print(f"Written: {path}. Train on it with: delete-tasks images train --data {path} ...")


COMMAND = Group(
    "backdoor",
    "Find the poison of a backdoored classifier, and clean the model.",
    [clean, find, poison],
)
