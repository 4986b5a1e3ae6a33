"""``delete-tasks images import|forget|train|evaluate|architectures``."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from delete_tasks.cli import options as shared
from delete_tasks.cli.command import OUT, Group, argument, command, data, evaluation, recipe
from delete_tasks.display.terminal import make_console
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.report.finish import tell_before, tell_next, tell_plan

from . import arguments
from .arguments import DATA_HELP, DATA_SET, DESCRIPTION, MODEL_FOLDER
from .models.spec import as_spec, load_spec

TABLE = (
    evaluation("--train-data", type=DATA_SET, help="Training images of all classes, for table and probes only."),
    evaluation("--retrained", type=MODEL_FOLDER, help="Model trained without the classes, for the table."),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
)
TEST = evaluation("--test", type=DATA_SET, help="Test images, for the table.")


@command(
    "import",
    "Make a model folder from a weights file.",
    argument(
        "weights",
        type=shared.FILE,
        help="State dict (.pth, .pt, .safetensors); or a folder of the Hugging Face Hub with a classifier of timm or "
        "transformers, which needs no other option (--classes renames its classes).",
    ),
    argument("folder", type=OUT, help="Model folder to write."),
    shared.overwrite("an existing model"),
    *DESCRIPTION,
    shared.DEVICE,
    shared.ALLOW_IMPORT,
)
def import_(args: SimpleNamespace) -> None:
    path, source = Path(args.weights), f"'{args.weights}'"
    spec: Any = None if arguments.describes_itself(args) else arguments.described_spec(args)
    refuse_existing(args.folder, [args.weights], args.overwrite)
    from delete_tasks.fileio.checkpoint import load_file, state_dict_of

    from .models.hub_folder import read_hub_folder
    from .models.model_file import import_state

    if spec is None:
        state, spec = read_hub_folder(path, args.classes)
    else:
        state = state_dict_of(load_file(path), source)
    folder = import_state(state, source, args.folder, spec, args.allow_import)
    sides = "x".join(map(str, spec.preprocessing.size))
    make_console().print(
        f"Written: {folder} ({spec.architecture}, {len(spec.classes)} classes, images of {sides} pixels)"
    )


@command(
    "forget",
    "Make a model forget classes.",
    shared.config("--model, --forget and --classes"),
    data("--model", type=MODEL_FOLDER, help="Folder of the model."),
    data("--forget", type=DATA_SET, help=f"Images of the classes to forget (others are ignored): {DATA_HELP}."),
    data("--classes", many=True, metavar="NAME...", help=f"Classes to forget, {shared.BY_NAME}."),
    data("--retain", type=DATA_SET, help="Images of other classes, if any: the model keeps its predictions there."),
    data("--public", type=DATA_SET, help="Images of anything, unlabelled: less of the class is left in the features."),
    *shared.work_dir_options("erased/, results.json, the record and the picture"),
    shared.method(
        retain=True,
        told="DeepDELETE; DELETE below 300 steps, with --retain, without strong views or a linear last layer",
    ),
    shared.DEEP,
    recipe(
        "--preset",
        type=click.Choice(["paper"]),
        help="Whole recipe in place of the default: paper is the paper's loop (SGD 1e-4, 780 steps of 128 crops and flips, i.e. "
        "20 epochs of 5,000 images), to compare with.",
    ),
    recipe(
        "--steps",
        type=shared.STEPS,
        help="Optimizer steps. [default: 600, or 900 beside other images; 300 for DELETE, 100 without strong views]",
    ),
    recipe(
        "--lr",
        type=shared.RATE,
        help="AdamW learning rate. [default: by method, size and steps; at most 4e-4, and 1e-4 for DELETE]",
    ),
    recipe(
        "--batch-size",
        type=shared.BATCH_SIZE,
        help="Images per step and process. [default: 64; 128 without strong views]",
    ),
    *shared.temperatures("4, or 3 beside other images; 1 for DELETE", "warmup_cosine; cosine for DELETE"),
    recipe(
        "--masking",
        type=click.Choice(["all", "own"]),
        help="Masked classes: all to forget, or the image's own. [default: all]",
    ),
    recipe("--stop", type=shared.STOP, help="Share of the classes' probability at or below which training ends."),
    shared.NORM_TRAIN,
    recipe(
        "--augment",
        type=click.Choice(["strong", "plain", "none"]),
        help="Views of the forget set: strong (crops, rotations, colours), plain (crops, flips) or none. "
        "[default: by method; strong for DELETE]",
    ),
    recipe(
        "--keep-row",
        is_flag=True,
        flag_value=True,
        default=None,
        help="Keep the class weights of the forgotten classes, which describe them, in the published last layer.",
    ),
    shared.AVOID,
    shared.INTO,
    shared.amp("on for DeepDELETE on a CPU with AMX or AVX512_BF16; else off"),
    TEST,
    shared.EXPECT,
    *TABLE,
    *shared.record_panel(),
    shared.LOADERS,
    shared.ALLOW_IMPORT,
    *shared.machine_panel("0"),
    short="--config --model --forget --classes --retain --public --overwrite --method --deep --steps --lr --test --resume "
    "--device --dry-run",
)
def forget(args: SimpleNamespace) -> int:
    from delete_tasks.report.record.options import record_options
    from delete_tasks.request.config import parse_options

    arguments.check_given(vars(args), "model", "forget", "classes")
    options, record = vars(args) | {"cfg_options": parse_options(args.cfg_options)}, record_options(args)
    if args.model and args.classes and not args.resume:
        arguments.check_classes(args.model, args.classes, args.expect, avoid=args.avoid, into=args.into)
    from . import forget

    console = make_console()
    cfg = forget.make_config(args.config, options)
    cfg.record = record
    original, data = args.model or Path(cfg.load_from).parent, cfg.train_dataloader.dataset.data
    if args.dry_run:
        forget.dry_run(cfg, args, console)
        return 0
    public, names = cfg.unlearn.get("public"), as_spec(cfg.model.spec).classes
    with shared.claim_work_dir(vars(args), [original, args.retrained], names, classes=cfg.unlearn.classes, data=data):
        sources = data if public is None else f"{data} and {public} (public)"
        tell_before(console, args, cfg.unlearn.classes, original, sources, cfg.unlearn)
        results = forget.run(cfg, args, console)
    status = tell_next(console, args, results)
    if results is not None and cfg.unlearn.type == "DELETE" and results["verdict"]["word"] in ("weakened", "hidden"):
        console.print("To lower what probes read: the same command with --deep, in twice the steps.")
    return status


@command(
    "train",
    "Train a model, e.g. the reference without a class.",
    data("--like", type=MODEL_FOLDER, help="Model folder with the description; or give --architecture, --classes, ..."),
    data("--finetune", type=MODEL_FOLDER, help="Model folder whose description and weights are used."),
    *DESCRIPTION,
    data("--data", type=DATA_SET, required=True, help=f"Training images: {DATA_HELP}."),
    data("--without", many=True, metavar="NAME...", help=f"Classes to leave out, {shared.BY_NAME}."),
    *shared.work_dir_options("model/ and the log"),
    recipe("--epochs", type=shared.whole(1, 100_000), default=30, help="Passes over the data."),
    recipe("--lr", type=shared.number(0, 10), default=0.1, help="SGD learning rate."),
    recipe("--weight-decay", type=shared.number(0, 1), default=5e-4, help="SGD weight decay."),
    recipe("--batch-size", type=shared.BATCH_SIZE, default=128, help="Images per step and process."),
    recipe("--amp", is_flag=True, help="Mixed precision on a CPU (bfloat16); always on on a GPU."),
    TEST,
    shared.LOADERS,
    shared.seed(0),
    shared.LAUNCHER,
    shared.DEVICE,
    shared.ALLOW_IMPORT,
    shared.VERBOSE,
    short="--like --finetune --architecture --classes --overwrite --without --epochs --lr --batch-size --test --resume --device",
)
def train(args: SimpleNamespace) -> None:
    if args.like and args.finetune:
        raise RequestError("--like starts from random weights and --finetune from the model's; give one of them")
    folder = args.finetune or args.like
    spec = load_spec(folder) if folder else arguments.described_spec(args)
    request = {"architecture": spec.architecture, "classes": spec.classes, "data": args.data, "without": args.without}
    with shared.claim_work_dir(vars(args), [folder], spec.classes, **request):
        from .train import train

        console = make_console()
        without = f" without {', '.join(map(str, args.without))}" if args.without else ""
        tell_plan(console, args, f"Trains {spec.architecture} for {args.epochs} epochs on {args.data}{without}")
        train(spec, args.data, args.test, args.without, args.work_dir, {**vars(args), "console": console})


@command(
    "evaluate",
    "Print a model's accuracies, or measure an erased model that is there already.",
    argument("model", type=MODEL_FOLDER, required=False, metavar="[MODEL]", help="Model folder, for its accuracies."),
    data("--original", type=MODEL_FOLDER, help="Original model, for table, audit and record of an erased one."),
    data("--erased", type=MODEL_FOLDER, help="Erased model."),
    data("--test", type=DATA_SET, required=True, help=f"Test images: {DATA_HELP}."),
    data("--classes", many=True, metavar="NAME...", help=f"Classes to report separately, {shared.BY_NAME}."),
    data("--out", type=OUT, help="JSON file of the accuracies."),
    data("--work-dir", type=OUT, metavar="DIR", help="Output folder of results.json, the record and the picture."),
    shared.overwrite("an existing --out, or files in --work-dir"),
    shared.EXPECT,
    *TABLE,
    evaluation(
        "--frontier",
        is_flag=True,
        help="Also measure the weights 10 to 50% of the way back to the original's (--cfg-options unlearn.step_back of forget).",
    ),
    *shared.record_panel(),
    shared.DEVICE,
    shared.ALLOW_IMPORT,
    shared.VERBOSE,
    short="--original --erased --test --classes --out --work-dir --overwrite --device",
)
def evaluate(args: SimpleNamespace) -> int:
    pair = [args.original, args.erased, args.classes, args.work_dir]
    if args.model and not any(pair[:2]) and not args.work_dir:
        return _accuracies(args)
    if args.model or args.out or not all(pair):
        raise RequestError(
            "give MODEL for its accuracies; or --original, --erased, --classes and --work-dir (no --out) for an erased model"
        )
    from delete_tasks.report.record.options import record_options

    from . import forget

    console, record = make_console(), record_options(args)
    names = load_spec(args.original).classes
    with shared.claim_work_dir(vars(args), pair[:2], names, classes=args.classes, data=args.test) as work:
        results = forget.evaluate(args, record, work, console)
    return tell_next(console, args, results)


def _accuracies(args: SimpleNamespace) -> int:
    from delete_tasks.fileio.atomic import save_json
    from delete_tasks.request.classes import resolve_classes

    read = ("model", "test", "classes", "out", "overwrite", "device", "allow_import", "verbose", "command", "action",
            "reads")  # fmt: skip
    unread = [
        name for name, value in vars(args).items() if value and name not in read and (name, value) != ("audit", "quick")
    ]
    if unread:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unread)
        raise RequestError(f"{names}: for an erased model, i.e. with --original and --erased, not MODEL; leave it out")
    if args.out:
        refuse_existing(args.out, [args.model], args.overwrite)
    ids = resolve_classes(args.classes, load_spec(args.model).classes) if args.classes else []
    from .data.opening import open_data
    from .models.model_file import load_model
    from .train import show

    flush_subnormals()
    network, spec = load_model(args.model, args.allow_import)
    tested = open_data(args.test, "test", spec.classes)
    figures = show(network.to(choose_device(args.device)), spec, tested, ids, make_console())
    if args.out:
        save_json({"model": str(Path(args.model)), **figures}, args.out)
    return 0


@command(
    "architectures",
    "List the architectures.",
    argument("pattern", required=False, metavar="[PART]", help="Part of the name, e.g. resnet."),
)
def architectures(args: SimpleNamespace) -> None:
    from .models.architectures.registry import list_architectures

    print("\n".join(list_architectures(args.pattern)))


COMMAND = Group(
    "images",
    "Make an image classifier forget classes, and measure before and after.",
    [forget, import_, train, evaluate, architectures],
)
