"""``delete-tasks images import|forget|train|evaluate|architectures``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from delete_tasks.cli import use_device
from delete_tasks.config_file import parse_options
from delete_tasks.errors import RequestError
from delete_tasks.masking import BY_NAME
from delete_tasks.options import (
    BATCH_SIZE,
    RATE,
    SEED,
    STEPS,
    STOP,
    TEMPERATURE,
    WORKERS,
    add_work_dir_arguments,
    claim_work_dir,
    number,
    whole,
)
from delete_tasks.record import add_record_arguments, record_options
from delete_tasks.terminal import make_console
from delete_tasks.workdir import refuse_existing

DESCRIPTION = "Make an image classifier forget classes, and measure before and after."
DATA_HELP = "a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]; ?class=deer&limit=500 choose"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's sub-commands and their arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_import(commands.add_parser("import", help="make a model folder from somebody's weights file"))
    _add_forget(commands.add_parser("forget", help="make a model forget classes"))
    _add_train(commands.add_parser("train", help="train a model, e.g. the reference without a class"))
    _add_evaluate(commands.add_parser("evaluate", help="print a model's accuracies"))
    listing = commands.add_parser("architectures", help="list what can be built")
    listing.add_argument("pattern", nargs="?", metavar="PART", help="of the name, e.g. resnet")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument(
        "--allow-import", action="store_true", help="run the code of an architecture named by import path"
    )


def _describe_model(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--architecture", required=required, help="e.g. resnet18, cifar_resnet20, package.module:Class")
    parser.add_argument(
        "--arguments", nargs="+", default=[], metavar="KEY=VALUE", help="of the architecture: stem=cifar"
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        action="extend",
        required=required,
        metavar="NAME",
        help="in the order of the logits; or cifar10, cifar100",
    )
    parser.add_argument(
        "--size", type=whole(1, 8192), nargs="+", default=[32], help="of the input: one side, or height and width"
    )
    parser.add_argument("--normalization", default="imagenet", help="none, imagenet, cifar10, cifar100 or half")
    parser.add_argument("--channels", default="RGB", choices=["RGB", "BGR"])
    parser.add_argument("--resize", default="stretch", choices=["stretch", "crop"])
    parser.add_argument("--crop-fraction", type=number(0, 1, above=True), default=1.0)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="a state dict (.pth, .pt, .safetensors)")
    parser.add_argument("folder", help="where the model folder goes")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    _describe_model(parser, required=True)
    _common(parser)


def _add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        help="instead of --model, --forget and --classes, which then override it; a config is Python, and its code runs",
    )
    parser.add_argument("--model", help="folder of the model that is to forget")
    parser.add_argument("--forget", metavar="DATA", help=f"images of the classes (others are left out): {DATA_HELP}")
    parser.add_argument("--classes", nargs="+", action="extend", metavar="NAME", help=f"classes to forget, {BY_NAME}")
    parser.add_argument("--retain", metavar="DATA", help="clean images of other classes, if there are any to keep by")
    parser.add_argument("--eval", metavar="DATA", help="test images, for the table")
    parser.add_argument(
        "--train", metavar="DATA", help="training images of all classes, for the table and the probes alone"
    )
    parser.add_argument("--retrained", metavar="MODEL", help="a model trained without the classes, for the table")
    add_work_dir_arguments(parser, "erased/, results.json, the record and the picture")
    parser.add_argument("--method", help="DELETE (default), HeadOnly, RandomLabel or NegativeGradient")
    parser.add_argument("--steps", type=STEPS, help="optimizer steps (default: 300; 100 without strong views)")
    parser.add_argument("--lr", type=RATE, help="of AdamW (default: by method and size; 6e-4 for DELETE)")
    parser.add_argument(
        "--batch-size", type=BATCH_SIZE, help="images a step and process (default: 64; 128 without strong views)"
    )
    parser.add_argument("--sharpen", type=TEMPERATURE, help="what the teacher's logits are divided by")
    parser.add_argument(
        "--temperature", type=TEMPERATURE, help="what both models' logits are divided by (8 or, for larger networks, 4)"
    )
    parser.add_argument("--schedule", choices=["constant", "cosine"], help="of the learning rate")
    parser.add_argument("--masking", choices=["all", "own"], help="default: all")
    parser.add_argument(
        "--stop", type=STOP, help="stop once the classes keep this share of their probability, e.g. 0.001"
    )
    parser.add_argument(
        "--norm-train", dest="norm_eval", action="store_const", const=False, help="train norm statistics"
    )
    parser.add_argument(
        "--augment",
        choices=["strong", "plain", "none"],
        help="of the forget set: strong (default; crops, turns, colours, in which the original sees other classes, too), plain "
        "(crops and flips)",
    )
    parser.add_argument(
        "--keep-row",
        action="store_const",
        const=True,
        help="leave the classes' rows, which are templates of them, in the published last layer",
    )
    parser.add_argument("--workers", type=WORKERS, help="processes that load images")
    parser.add_argument("--wide", action="store_true", help="print every column of the table")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override parts of the config")
    parser.add_argument("--seed", type=SEED, help="default: 0")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], help="default: pytorch under torchrun"
    )
    add_record_arguments(parser)
    _common(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--like", metavar="MODEL", help="a model folder whose description is taken; or describe the model:"
    )
    parser.add_argument("--finetune", metavar="MODEL", help="the same, and training starts from its weights")
    _describe_model(parser, required=False)
    parser.add_argument("--data", required=True, help=f"training images: {DATA_HELP}")
    parser.add_argument("--eval", metavar="DATA", help="test images")
    parser.add_argument(
        "--without",
        nargs="+",
        action="extend",
        default=[],
        metavar="CLASS",
        help=f"leave these classes out, {BY_NAME}",
    )
    parser.add_argument("--work-dir", required=True, metavar="DIR", help="where model/ goes")
    parser.add_argument("--overwrite", action="store_true", help="take a work dir that holds other files, too")
    parser.add_argument("--epochs", type=whole(1, 100_000), default=30)
    parser.add_argument("--lr", type=number(0, 10), default=0.1, help="of SGD")
    parser.add_argument("--weight-decay", type=number(0, 1), default=5e-4)
    parser.add_argument("--batch-size", type=BATCH_SIZE, default=128, help="images a step and process")
    parser.add_argument("--workers", type=WORKERS, help="processes that load images")
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], help="default: pytorch under torchrun"
    )
    _common(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--eval", metavar="DATA", required=True, help=f"test images: {DATA_HELP}")
    parser.add_argument(
        "--classes",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"forgotten classes, counted apart, {BY_NAME}",
    )
    parser.add_argument("--out", metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    _common(parser)


def read_arguments(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words; a value is JSON where it reads as such, else a string."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"--arguments takes KEY=VALUE, got '{pair}'")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def _spec(args: argparse.Namespace) -> Any:
    from .cifar import CLASSES
    from .spec import ModelSpec, Preprocessing

    if not args.architecture or not args.classes:
        raise RequestError("the model is not described: give --architecture and --classes, or --like MODEL")
    lone = args.classes[0] if len(args.classes) == 1 else None
    classes = CLASSES.get(lone, tuple(args.classes)) if lone else tuple(args.classes)
    if len(args.size) > 2:
        raise RequestError(f"--size takes one side, or height and width; got {len(args.size)} numbers")
    size = args.size[0] if len(args.size) == 1 else (args.size[0], args.size[1])
    others = {"channels": args.channels, "resize": args.resize, "crop_fraction": args.crop_fraction}
    preprocessing = Preprocessing.named(args.normalization, size, **others)
    return ModelSpec(args.architecture, tuple(classes), preprocessing, read_arguments(args.arguments))


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    if args.action == "architectures":
        return _list_architectures(args.pattern)
    use_device(args.device)
    if getattr(args, "launcher", "") is None:
        args.launcher = "pytorch" if "LOCAL_RANK" in os.environ else "none"
    actions = {"import": _import, "forget": _forget, "train": _train, "evaluate": _evaluate}
    return actions[args.action](args, make_console()) or 0


def _list_architectures(pattern: str | None) -> int:
    from .architectures.listing import entries, footer

    for entry in entries(pattern):
        print("\n".join(entry.lines()))
    if pattern is None:
        print("\n".join(["", *footer()]))
    return 0


def _import(args: argparse.Namespace, console: Console) -> None:
    from .model_file import import_checkpoint

    spec = _spec(args)
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
    console.print(f"Written: {folder}")


def _forget(args: argparse.Namespace, console: Console) -> int:
    from . import forget

    cfg = forget.make_config(args.config, vars(args) | {"cfg_options": parse_options(args.cfg_options)})
    cfg.record = record_options(args)
    wanted = forget.EvaluationOptions(args.eval, args.train, args.retrained, args.allow_import)
    originals = [args.model or Path(cfg.load_from).parent, args.retrained]
    with claim_work_dir(vars(args), originals, classes=cfg.unlearn.classes, data=cfg.train_dataloader.dataset.data):
        results = forget.run(cfg, wanted, console, args.wide)
    return 0 if results is None else results["exit_status"]


def _train(args: argparse.Namespace, console: Console) -> None:
    from .model_file import load_spec
    from .train import train

    if args.like and args.finetune:
        raise RequestError("--like starts from random weights and --finetune from the model's; give one of them")
    folder = args.finetune or args.like
    spec = load_spec(folder) if folder else _spec(args)
    described = {"architecture": spec.architecture, "classes": spec.classes, "data": args.data, "without": args.without}
    with claim_work_dir(vars(args), [folder], **described):
        train(spec, args.data, args.eval, args.without, args.work_dir, {**vars(args), "console": console})


def _evaluate(args: argparse.Namespace, console: Console) -> None:
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
    figures = show(network.to(device), spec, open_data(args.eval, "test", spec.classes), ids, console)
    if args.out:
        save_json({"model": str(Path(args.model)), **figures}, args.out)
