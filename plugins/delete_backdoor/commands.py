"""``delete-tasks backdoor clean|find|poison``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from delete_tasks.cli import use_device
from delete_tasks.masking import BY_NAME
from delete_tasks.options import (
    BATCH_SIZE,
    RATE,
    SEED,
    SHARE,
    STEPS,
    TEMPERATURE,
    add_work_dir_arguments,
    claim_work_dir,
    number,
    whole,
)
from delete_tasks.record import add_record_arguments, record_options
from delete_tasks.terminal import make_console
from delete_tasks.workdir import refuse_existing

DESCRIPTION = "Find the poison of a backdoored classifier, and clean the model."
DATA_HELP = "a folder of class folders, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]; ?class=deer&limit=500 choose"
TRIGGER_HELP = (
    "badnets:size=3,pos=28,28 | grid:pos=29,29 | blended:image=FILE,alpha=0.2 | sig:delta=20,f=6 | trojan:image=FILE | "
    "l0:image=FILE,mask=FILE | l2:image=FILE | wanet:k=4,s=0.5"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's sub-commands and their arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_clean(commands.add_parser("clean", help="take a backdoor out of a model"))
    _add_find(commands.add_parser("find", help="rank a training set by how poisoned its samples look"))
    _add_poison(commands.add_parser("poison", help="write a poisoned copy of a data set"))


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument(
        "--allow-import", action="store_true", help="run the code of an architecture named by import path"
    )


def _add_clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        help="instead of --model and --poisoned, which then override it; a config is Python, and its code runs",
    )
    parser.add_argument("--model", help="folder of the backdoored model")
    parser.add_argument(
        "--poisoned", metavar="DATA", help=f"poisoned samples, or a ranking that find wrote (.json): {DATA_HELP}"
    )
    parser.add_argument(
        "--target", help=f"the attacker's class, {BY_NAME} (default: what most samples are predicted as)"
    )
    parser.add_argument(
        "--clean",
        metavar="DATA",
        help="a few hundred clean samples of all classes, recommended: without them (strict mode) the model is kept by "
        "trigger-free views of the poisoned samples, which show nothing of the target class; see docs/backdoor.md for what "
        "that costs (a first try by hand lost 15 to 60 points of accuracy on published networks to poisoned samples alone, 2 "
        "to 4 with 500 clean ones)",
    )
    parser.add_argument("--eval", metavar="DATA", help="clean test images, for the table")
    parser.add_argument("--trigger", metavar="SPEC", help=f"put on the test images, for ASR and RA: {TRIGGER_HELP}")
    parser.add_argument(
        "--compare", action="store_true", help="make the other rows of the table, too; takes as long again"
    )
    add_work_dir_arguments(parser, "cleaned/, results.json, the record and backdoor.png")
    parser.add_argument(
        "--force", action="store_true", help="go on with odd samples; write the model whatever the verdict"
    )
    parser.add_argument(
        "--steps", type=STEPS, help="optimizer steps (default: 200; at most 100 in strict mode, which stops)"
    )
    parser.add_argument(
        "--lr", type=RATE, help="of AdamW (default: 1e-3, less for more than 300,000 parameters: 6e-5 for a ResNet-18)"
    )
    parser.add_argument(
        "--batch-size", type=BATCH_SIZE, help="poisoned samples a step; each brings --clean-each clean ones"
    )
    parser.add_argument("--clean-each", type=whole(0, 10_000), help="clean samples beside each poisoned one")
    parser.add_argument("--mix", type=SHARE, help="share of clean samples that are mixtures of two (0 to 1)")
    parser.add_argument(
        "--carriers",
        type=SHARE,
        metavar="SHARE",
        help="share of clean samples, 0 (default) to 1, that have a piece of a poisoned one pasted on them and are still to be "
        "what they were. For a trigger that covers a part of the image: triggered images are then mostly seen as what they show, "
        "and a few more of them stay at the target; see docs/backdoor.md",
    )
    parser.add_argument(
        "--held", type=number(0, 1, below=True), help="share of samples that are set aside for the watch"
    )
    parser.add_argument("--views", type=whole(1, 10_000), help="views tried for each poisoned sample in strict mode")
    parser.add_argument(
        "--second-choice",
        dest="forgetting_only",
        action="store_const",
        const=False,
        help="distil poisoned samples to the original's second choice, as the paper does; by default the target is taken away "
        "from them and nothing else is taught",
    )
    parser.add_argument("--sharpen", type=TEMPERATURE, help="what the teacher's logits are divided by")
    parser.add_argument(
        "--temperature", type=TEMPERATURE, help="what both models' logits are divided by (default: 4; 1 in strict mode)"
    )
    parser.add_argument(
        "--schedule",
        choices=["constant", "cosine"],
        help="of the learning rate (default: cosine; rising in strict mode)",
    )
    parser.add_argument(
        "--norm-train", dest="norm_eval", action="store_const", const=False, help="train norm statistics"
    )
    parser.add_argument("--seed", type=SEED, help="default: 0")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], help="default: pytorch under torchrun"
    )
    add_record_arguments(parser)
    _common(parser)


def _add_find(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="folder of the model that was trained on the data")
    parser.add_argument("--data", required=True, metavar="DATA", help=f"the training set with its labels: {DATA_HELP}")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the ranking goes (.json)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--flag",
        choices=["smaller", "larger"],
        help="flag this cluster of the suspicious class, after looking at both (default: as the evidence says)",
    )
    _common(parser)


def _add_poison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    parser.add_argument("--trigger", required=True, metavar="SPEC", help=TRIGGER_HELP)
    parser.add_argument("--target", required=True, help=f"the attacker's class, {BY_NAME}")
    parser.add_argument(
        "--rate",
        type=number(0, 1, above=True),
        default=0.1,
        help="share of all images that are poisoned (default: 0.1)",
    )
    parser.add_argument(
        "--clean-label", action="store_true", help="poison images of the target class, keep labels (SIG)"
    )
    parser.add_argument("--seed", type=SEED, default=0, help="of the choice")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the poisoned data go (.npz)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def add_attention_arguments(group: argparse._ArgumentGroup) -> None:
    """What ``delete-tasks attention`` needs to attack clean INPUTS."""
    group.add_argument(
        "--trigger", metavar="SPEC", help=f"put on each image; its pixels are the region: {TRIGGER_HELP}"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    use_device(getattr(args, "device", None))
    if getattr(args, "launcher", "") is None:
        args.launcher = "pytorch" if "LOCAL_RANK" in os.environ else "none"
    return {"clean": _clean, "find": _find, "poison": _poison}[args.action](args, make_console())


def _clean(args: argparse.Namespace, console: Console) -> int:
    from . import clean, config

    options: dict[str, Any] = vars(args)
    cfg = config.make_config(args.config, options, console)
    cfg.record = record_options(args)
    data = cfg.train_dataloader.dataset
    with claim_work_dir(options, [args.model or Path(cfg.load_from).parent], target=data.target, data=data.poisoned):
        results = clean.run(cfg, clean.EvaluationOptions(args.eval, args.trigger, args.compare), console)
    return 0 if results is None else results["exit_status"]


def _find(args: argparse.Namespace, console: Console) -> int:
    from . import find

    for path in (args.out, find.picture_path(args.out)):
        refuse_existing(path, [args.data.partition("?")[0], *Path(args.model).glob("*")], args.overwrite)
    find.run(args.model, args.data, args.out, console, args.allow_import, args.flag)
    return 0


def _poison(args: argparse.Namespace, console: Console) -> int:
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
    console.print(
        f"{int(poisoned.poisoned.sum())} of {len(poisoned)} images carry '{args.trigger}' and are labelled "
        f"'{data.class_names[target]}'."
    )
    console.print(f"Written: {path}. Train on it with: delete-tasks images train --data {path} ...")
    return 0
