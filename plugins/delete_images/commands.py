"""``delete-tasks images import|forget|train|evaluate|architectures``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click

from delete_tasks.cli.command import DATA, EVALUATION, FILE, RECIPE, Group, argument, command, option
from delete_tasks.cli.device import use_device, use_launcher
from delete_tasks.cli.summary import tell_before, tell_next
from delete_tasks.errors import RequestError
from delete_tasks.options import (
    ALLOW_IMPORT,
    BATCH_SIZE,
    BY_NAME,
    CFG_OPTIONS,
    DEVICE,
    LAUNCHER,
    LOADERS,
    NORM_TRAIN,
    RATE,
    STEPS,
    STOP,
    TEACHER_TEMPERATURE,
    TEMPERATURE,
    VERBOSE,
    claim_work_dir,
    config,
    method,
    number,
    overwrite,
    record_panel,
    seed,
    whole,
    work_dir_options,
)
from delete_tasks.outputs import refuse_existing
from delete_tasks.terminal import make_console

from .described import described_spec, description

DATA_HELP = "a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]; ?class=deer&limit=500 choose"


TEST = option("--test", panel=EVALUATION, type=FILE, metavar="DATA", help="Test images, for the table.")


@command(
    "import",
    "Make a model folder from somebody's weights file.",
    argument("weights", type=FILE, help="A state dict (.pth, .pt, .safetensors)."),
    argument("folder", type=FILE, help="Where the model folder goes."),
    overwrite("a model that is there"),
    *description(required=True),
    DEVICE,
    ALLOW_IMPORT,
)
def import_(args: SimpleNamespace) -> None:
    from .model_file import import_checkpoint

    use_device(args.device)
    spec = described_spec(args)
    refuse_existing(args.folder, [args.weights], args.overwrite)
    folder = import_checkpoint(
        args.weights,
        args.folder,
        spec.architecture,
        spec.classes,
        spec.preprocessing,
        spec.arguments,
        args.allow_import,
    )
    make_console().print(f"Written: {folder}")


@command(
    "forget",
    "Make a model forget classes.",
    config("--model, --forget and --classes"),
    option("--model", panel=DATA, type=FILE, metavar="MODEL", help="Folder of the model that is to forget."),
    option(
        "--forget",
        panel=DATA,
        type=FILE,
        metavar="DATA",
        help=f"Images of the classes (others are left out): {DATA_HELP}.",
    ),
    option("--classes", panel=DATA, many=True, metavar="NAME...", help=f"Classes to forget, {BY_NAME}."),
    option(
        "--retain",
        panel=DATA,
        type=FILE,
        metavar="DATA",
        help="Images of other classes, on which the model is to stay as it is, if there are any.",
    ),
    *work_dir_options("erased/, results.json, the record and the picture"),
    method(retain=True),
    option("--steps", panel=RECIPE, type=STEPS, help="Optimizer steps. [default: 300; 100 without strong views]"),
    option("--lr", panel=RECIPE, type=RATE, help="Of AdamW. [default: by method and size; 6e-4 for DELETE]"),
    option(
        "--batch-size",
        panel=RECIPE,
        type=BATCH_SIZE,
        help="Images a step and process. [default: 64; 128 without strong views]",
    ),
    TEACHER_TEMPERATURE,
    option(
        "--temperature",
        panel=RECIPE,
        type=TEMPERATURE,
        help="What both models' logits are divided by. [default: 8 or, for larger networks, 4]",
    ),
    option("--schedule", panel=RECIPE, type=click.Choice(["constant", "cosine"]), help="Of the learning rate."),
    option(
        "--masking",
        panel=RECIPE,
        type=click.Choice(["all", "own"]),
        help="Mask all classes that are to be forgotten, or each image's own label. [default: all]",
    ),
    option(
        "--stop",
        panel=RECIPE,
        type=STOP,
        help="Stop once the classes keep this share of their probability, e.g. 0.001.",
    ),
    NORM_TRAIN,
    option(
        "--augment",
        panel=RECIPE,
        type=click.Choice(["strong", "plain", "none"]),
        help="Views of the forget set: strong (crops, turns, colours, in which the original sees other classes, too) or plain "
        "(crops and flips). [default: strong]",
    ),
    option(
        "--keep-row",
        panel=RECIPE,
        is_flag=True,
        flag_value=True,
        default=None,
        help="Leave the classes' rows, which are templates of them, in the published last layer.",
    ),
    TEST,
    option(
        "--train-data",
        panel=EVALUATION,
        type=FILE,
        metavar="DATA",
        help="Training images of all classes, for the table and the probes alone.",
    ),
    option(
        "--retrained",
        panel=EVALUATION,
        type=FILE,
        metavar="MODEL",
        help="A model that was trained without the classes, for the table.",
    ),
    option("--wide", panel=EVALUATION, is_flag=True, help="Print every column of the table."),
    *record_panel(),
    LOADERS,
    CFG_OPTIONS,
    seed(None, "Of everything random. [default: 0]"),
    LAUNCHER,
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def forget(args: SimpleNamespace) -> int:
    use_device(args.device)
    use_launcher(args)
    from delete_tasks.config_file import parse_options
    from delete_tasks.record import record_options

    from . import forget

    console = make_console()
    cfg = forget.make_config(args.config, vars(args) | {"cfg_options": parse_options(args.cfg_options)})
    cfg.record = record_options(args)
    wanted = forget.EvaluationOptions(args.test, args.train_data, args.retrained, args.allow_import)
    original, data = args.model or Path(cfg.load_from).parent, cfg.train_dataloader.dataset.data
    with claim_work_dir(vars(args), [original, args.retrained], classes=cfg.unlearn.classes, data=data):
        tell_before(console, args, cfg.unlearn.classes, original, data, cfg.unlearn)
        results = forget.run(cfg, wanted, console, args.wide)
    tell_next(console, args, original, results)
    return 0 if results is None else results["exit_status"]


@command(
    "train",
    "Train a model, e.g. the reference without a class.",
    option(
        "--like",
        panel=DATA,
        type=FILE,
        metavar="MODEL",
        help="A model folder whose description is taken. Or describe the model with --architecture, --classes, ...",
    ),
    option(
        "--finetune",
        panel=DATA,
        type=FILE,
        metavar="MODEL",
        help="As --like, and training starts from the model's weights.",
    ),
    *description(required=False),
    option("--data", panel=DATA, type=FILE, required=True, metavar="DATA", help=f"Training images: {DATA_HELP}."),
    option("--without", panel=DATA, many=True, metavar="NAME...", help=f"Leave these classes out, {BY_NAME}."),
    *work_dir_options("model/ and the log", resumes=False),
    option("--epochs", panel=RECIPE, type=whole(1, 100_000), default=30, help="Passes over the data."),
    option("--lr", panel=RECIPE, type=number(0, 10), default=0.1, help="Of SGD."),
    option("--weight-decay", panel=RECIPE, type=number(0, 1), default=5e-4, help="Of SGD."),
    option("--batch-size", panel=RECIPE, type=BATCH_SIZE, default=128, help="Images a step and process."),
    TEST,
    LOADERS,
    seed(0),
    LAUNCHER,
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def train(args: SimpleNamespace) -> None:
    use_device(args.device)
    use_launcher(args)
    from .model_file import load_spec
    from .train import train

    if args.like and args.finetune:
        raise RequestError("--like starts from random weights and --finetune from the model's; give one of them")
    folder = args.finetune or args.like
    spec = load_spec(folder) if folder else described_spec(args)
    described = {"architecture": spec.architecture, "classes": spec.classes, "data": args.data, "without": args.without}
    with claim_work_dir(vars(args), [folder], **described):
        options = {**vars(args), "console": make_console()}
        train(spec, args.data, args.test, args.without, args.work_dir, options)


@command(
    "evaluate",
    "Print a model's accuracies.",
    argument("model", type=FILE, help="A model folder."),
    option("--test", panel=DATA, type=FILE, metavar="DATA", required=True, help=f"Test images: {DATA_HELP}."),
    option("--classes", panel=DATA, many=True, metavar="NAME...", help=f"Classes that are counted apart, {BY_NAME}."),
    option("--out", panel=DATA, type=FILE, metavar="FILE", help="Write the figures as JSON."),
    overwrite("--out if it is there"),
    DEVICE,
    ALLOW_IMPORT,
)
def evaluate(args: SimpleNamespace) -> None:
    use_device(args.device)
    import torch

    from delete_tasks.checkpoint import save_json
    from delete_tasks.masking import resolve_classes

    from .data import open_data
    from .model_file import load_model
    from .train import show

    torch.set_flush_denormal(True)
    if args.out:
        refuse_existing(args.out, [args.model], args.overwrite)
    network, spec = load_model(args.model, args.allow_import)
    ids = resolve_classes(args.classes, spec.classes) if args.classes else []
    device = "cuda" if torch.cuda.is_available() and args.device != "cpu" else "cpu"
    tested = open_data(args.test, "test", spec.classes)
    figures = show(network.to(device), spec, tested, ids, make_console())
    if args.out:
        save_json({"model": str(Path(args.model)), **figures}, args.out)


@command(
    "architectures",
    "List what can be built.",
    argument("pattern", required=False, metavar="[PART]", help="Of the name, e.g. resnet."),
)
def architectures(args: SimpleNamespace) -> None:
    from .architectures.listing import entries, footer

    for entry in entries(args.pattern):
        print("\n".join(entry.lines()))
    if args.pattern is None:
        print("\n".join(["", *footer()]))


COMMAND = Group(
    "images",
    "Make an image classifier forget classes, and measure before and after.",
    [forget, import_, train, evaluate, architectures],
)
