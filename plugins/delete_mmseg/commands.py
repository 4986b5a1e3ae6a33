"""``delete-tasks segmentation``."""

from __future__ import annotations

import argparse
import os

from delete_tasks.cli import use_device
from delete_tasks.config_file import parse_options
from delete_tasks.masking import BY_NAME
from delete_tasks.options import BATCH_SIZE, RATE, SEED, STEPS, add_work_dir_arguments, claim_work_dir
from delete_tasks.record import add_record_arguments, record_options
from delete_tasks.terminal import make_console

DESCRIPTION = "Make an MMSegmentation model forget classes, and measure before and after."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "config",
        help="any MMSegmentation config of the model, with or without `unlearn` in it; it is Python, and its code runs",
    )
    parser.add_argument("--checkpoint", required=True, help="the model that is to forget")
    parser.add_argument(
        "--classes", nargs="+", action="extend", default=[], metavar="NAME", help=f"classes to forget, {BY_NAME}"
    )
    add_work_dir_arguments(parser, "erased.pth, results.json, the record and before_after.png")
    parser.add_argument("--steps", type=STEPS, help="optimizer steps (default: the config's, or 200)")
    parser.add_argument("--lr", type=RATE, help="learning rate (default: the config's, or 1e-4)")
    parser.add_argument("--batch-size", type=BATCH_SIZE, help="images a step and process (default: the config's)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument("--seed", type=SEED, help="default: the config's, or 0")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would happen, write nothing")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], help="default: pytorch under torchrun"
    )
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="override parts of the config")
    add_record_arguments(parser)


def add_attention_arguments(group: argparse._ArgumentGroup) -> None:
    """What ``delete-tasks attention`` needs beside checkpoints."""
    group.add_argument(
        "--config", help="the MMSegmentation config of the models; INPUTS are then images, or test, val, train"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    use_device(args.device)
    from .run import dry_run, make_config
    from .run import run as unlearn

    options = vars(args) | {"cfg_options": parse_options(args.cfg_options)}
    if options["launcher"] is None:
        options["launcher"] = "pytorch" if "LOCAL_RANK" in os.environ else "none"
    cfg = make_config(args.config, args.checkpoint, args.classes, args.work_dir, options)
    cfg.record = record_options(args)
    console = make_console()
    if args.dry_run:
        dry_run(cfg, console)
        return 0
    request = {"config": os.path.abspath(args.config), "classes": cfg.unlearn.get("classes")}
    with claim_work_dir(vars(args), [cfg.load_from], **request):
        return unlearn(cfg, console)["exit_status"]
