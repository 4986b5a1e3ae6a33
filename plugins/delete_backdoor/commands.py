"""``delete-tasks backdoor clean|find|poison``."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from delete_images.arguments import DATA_HELP, DATA_SET, MODEL_FOLDER, DataSet, check_classes, check_given
from delete_tasks.cli import options as shared
from delete_tasks.cli.command import OUT, Group, command, data, evaluation, recipe
from delete_tasks.display.terminal import make_console
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.report.finish import tell_before, tell_next

from .grammar import trigger_table

TRIGGER_HELP = "e.g. badnets:size=3; 'delete-tasks backdoor poison --help' lists them"
METHODS = ("DELETE", "InversionDELETE", "FineTune", "FTSAM", "IBAU")  # of recipes.RECIPES
# Options of `delete-tasks attention` for this task, which puts a trigger on clean INPUTS.
ATTENTION_OPTIONS = [
    data(
        "--trigger",
        metavar="SPEC",
        help=f"For backdoor: trigger to put on each image, {TRIGGER_HELP}; its pixels are the region.",
    )
]


@command(
    "clean",
    "Remove a backdoor from a model.",
    shared.config("--model and --poisoned"),
    data("--model", type=MODEL_FOLDER, help="Folder of the backdoored model."),
    data(
        "--poisoned",
        type=DataSet("DATA", ".json"),
        help=f"Samples that contain the trigger, or a ranking of find (.json): {DATA_HELP}. [default: --retain with --trigger]",
    ),
    data(
        "--target",
        metavar="NAME",
        help=f"The attacker's class, {shared.BY_NAME}. [default: the most frequent prediction of poisoned samples]",
    ),
    data(
        "--retain",
        type=DataSet("DATA", ".json"),
        help="A few hundred samples of all classes without a trigger (recommended): the model keeps its predictions there. "
        "Without them (strict mode) trigger-free views of the poisoned samples are used; see docs/benchmarks/backdoor.md.",
    ),
    *shared.work_dir_options("cleaned/, results.json, the record and backdoor.png"),
    data("--force", is_flag=True, help="Accept samples that look clean; write the model whatever the verdict."),
    recipe(
        "--method",
        metavar="NAME",
        help=f"{', '.join(METHODS)}: the last three, for comparison, learn from --retain and its labels alone. [default: DELETE; "
        "InversionDELETE, which searches for more triggers, for an estimated --trigger without --poisoned]",
    ),
    recipe("--steps", type=shared.STEPS, help="Optimizer steps. [default: 4800; 1200 without --retain]"),
    recipe(
        "--lr",
        type=shared.RATE,
        help="AdamW learning rate. [default: 2e-3, less above 300,000 parameters: 1.1e-4 for a ResNet-18; half of that without "
        "--retain]",
    ),
    recipe(
        "--batch-size",
        type=shared.BATCH_SIZE,
        help="Items per step, each with --retain-each samples of --retain, and a poisoned one (in a tenth, if the trigger is "
        "pasted). [default: 1; 3 without --retain]",
    ),
    recipe("--retain-each", type=shared.whole(0, 10_000), help="Samples of --retain per poisoned one. [default: 11]"),
    recipe("--mix", type=shared.SHARE, help="Share of the --retain samples that are mixtures of two. [default: 1]"),
    recipe(
        "--paste",
        type=shared.SHARE,
        help="Share of the --retain samples with the trigger pasted on, as it is estimated from the poisoned samples; the model "
        "keeps its predictions without it. [default: 0.45; 0.3 without --retain]",
    ),
    recipe(
        "--held-out", "held", type=shared.number(0, 1, below=True), help="Share held out for the watch. [default: 0.2]"
    ),
    recipe("--views", type=shared.whole(1, 10_000), help="Views of each poisoned sample in strict mode. [default: 8]"),
    recipe(
        "--second-choice",
        "forgetting_only",
        is_flag=True,
        flag_value=False,
        default=None,
        help="Distil poisoned samples to the original's second choice, as in the paper. By default only the probability of the "
        "target is lowered.",
    ),
    *shared.temperatures("2", "cosine"),
    shared.NORM_TRAIN,
    evaluation("--test", type=DATA_SET, help="Test images without a trigger, for the table."),
    evaluation(
        "--trigger",
        metavar="SPEC",
        help=f"Trigger to put on the test images, for ASR and RA, {TRIGGER_HELP}; without --poisoned also on --retain, to clean "
        "by.",
    ),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
    *shared.record_panel(),
    shared.seed(None, "Random seed. [default: 0]"),
    shared.LOG_TO,
    shared.LAUNCHER,
    shared.DEVICE,
    shared.ALLOW_IMPORT,
    shared.VERBOSE,
    short="--config --model --poisoned --target --retain --overwrite --force --steps --lr --test --trigger --resume --device",
)
def clean(args: SimpleNamespace) -> int:
    from delete_tasks.report.record.options import record_options

    options: dict[str, Any] = vars(args)
    inverted = args.retain and args.trigger and not args.poisoned  # the trigger goes on the retain samples
    check_given(options, "model", "target" if inverted else "poisoned")
    record = record_options(args)
    if args.model and args.target and not args.resume:
        check_classes(args.model, [args.target])
    from delete_images.models.model_file import as_spec

    from . import clean

    console = make_console()
    cfg = clean.make_config(args.config, options, console)
    cfg.record = record
    data, model = cfg.train_dataloader.dataset, args.model or Path(cfg.load_from).parent
    names = as_spec(cfg.model.spec).classes
    with shared.claim_work_dir(options, [model], names, target=data.target, data=data.poisoned):
        tell_before(console, args, [f"the backdoor to {data.target}"], model, data.poisoned, cfg.unlearn)
        results = clean.run(cfg, args, console)
    more = "more" if data.get("retain") else "a few hundred"
    return tell_next(console, args, results, f"give {more} samples without a trigger (--retain), or ")


@command(
    "find",
    "Rank the samples of a training set by how poisoned they look, or find a trigger in the model.",
    data("--model", type=MODEL_FOLDER, required=True, help="Folder of the model that was trained on the data."),
    data("--data", type=DATA_SET, required=True, help=f"Training set with its labels: {DATA_HELP}."),
    data("--out", type=OUT, required=True, help="Ranking to write (.json)."),
    shared.overwrite("an existing file"),
    recipe(
        "--flag",
        type=click.Choice(["smaller", "larger"]),
        help="Cluster of the suspicious class to flag, after a look at both. [default: by the evidence]",
    ),
    recipe(
        "--no-inversion",
        "inversion",
        is_flag=True,
        flag_value=False,
        default=None,
        help="Look at the samples alone. By default, if none is flagged, a trigger is searched for in the model.",
    ),
    shared.DEVICE,
    shared.ALLOW_IMPORT,
)
def find(args: SimpleNamespace) -> None:
    from .find import find
    from .poison import files_of

    inputs: list[Any] = [*files_of([args.data]), *Path(args.model).glob("*")]
    refuse_existing(args.out, inputs, args.overwrite, suffix=".json")
    for end in find.BESIDE:
        refuse_existing(find.beside(args.out, end), inputs, args.overwrite)
    find.run(args.model, args.data, args.out, make_console(), args.allow_import, args.flag, args.inversion is None)


@command(
    "poison",
    "Write a poisoned copy of a data set.",
    data("--data", type=DATA_SET, required=True, help=f"Data set: {DATA_HELP}."),
    recipe("--trigger", required=True, metavar="SPEC", help=f"Trigger to put on images:\n\n{trigger_table()}"),
    recipe("--target", required=True, metavar="NAME", help=f"The attacker's class, {shared.BY_NAME}."),
    recipe("--rate", type=shared.number(0, 1, above=True), default=0.1, help="Share of all images that are poisoned."),
    recipe("--clean-label", is_flag=True, help="Poison images of the target class, keep their labels (SIG)."),
    shared.seed(0, "Random seed of the choice."),
    data("--out", type=OUT, required=True, help="Poisoned data to write (.npz)."),
    shared.overwrite("an existing file"),
)
def poison(args: SimpleNamespace) -> None:
    from delete_images.data.opening import open_data
    from delete_tasks.request.classes import resolve_classes

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


COMMAND = Group("backdoor", "Find a backdoored classifier's poison, and clean the model.", [clean, find, poison])
