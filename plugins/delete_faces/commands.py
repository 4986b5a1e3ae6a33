"""``delete-tasks faces align|enroll|remove|identify``."""

from __future__ import annotations

import argparse

from delete_images.commands import read_arguments
from delete_tasks.cli import use_device
from delete_tasks.masking import BY_NAME
from delete_tasks.options import (
    BATCH_SIZE,
    RATE,
    SEED,
    STEPS,
    STOP,
    TEMPERATURE,
    add_work_dir_arguments,
    claim_work_dir,
    number,
    whole,
)
from delete_tasks.record import add_record_arguments, record_options
from delete_tasks.terminal import make_console
from delete_tasks.workdir import refuse_existing

DESCRIPTION = "Remove people from a face-identification model, and measure before and after."
PHOTOS_HELP = "a folder with one folder of photos for each person (or train/ and test/ with those)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's sub-commands and their arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_align(commands.add_parser("align", help="find faces in photos once, for commands with --aligned"))
    _add_enroll(commands.add_parser("enroll", help="make a model from photos of people"))
    _add_remove(commands.add_parser("remove", help="make a model forget people"))
    _add_identify(commands.add_parser("identify", help="say who is on photos"))


def _common(parser: argparse.ArgumentParser, aligned: bool = True) -> None:
    if aligned:
        parser.add_argument("--aligned", action="store_true", help="photos are cut and turned to the face already")
    parser.add_argument("--largest-face", action="store_true", help="of several faces take the largest central one")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument("--allow-import", action="store_true", help="run the code of a backbone named by import path")


def _add_align(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", required=True, metavar="DIR", help=PHOTOS_HELP)
    parser.add_argument("--out", required=True, metavar="DIR", help="faces go to OUT/train and OUT/test")
    parser.add_argument("--backbone", default="mobilefacenet", help="whose frame faces are brought into")
    parser.add_argument(
        "--held-out", type=number(0, 1, below=True), default=0.3, help="share of each person's photos for OUT/test"
    )
    parser.add_argument("--seed", type=SEED, default=0, help="of the choice")
    _common(parser, aligned=False)


def _add_enroll(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", required=True, metavar="DIR", help=PHOTOS_HELP)
    parser.add_argument("--eval", metavar="DIR", help="held-out photos (default: a share of each person's photos)")
    parser.add_argument(
        "--backbone",
        default="mobilefacenet",
        help="mobilefacenet, inception_resnet_v1, an architecture of `images`, or package.module:Class",
    )
    parser.add_argument(
        "--weights", help="of the backbone: a file; for inception_resnet_v1 also vggface2 or casia-webface (fetched)"
    )
    parser.add_argument("--out", required=True, metavar="MODEL", help="the model folder")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    parser.add_argument("--head", default="cosine", choices=["cosine", "linear"])
    parser.add_argument("--scale", type=number(0, 10_000, above=True), help="of a cosine head (default: 30)")
    parser.add_argument("--embedding-size", type=whole(1, 65_536), help="of a backbone that leaves the choice")
    parser.add_argument("--arguments", nargs="+", default=[], metavar="KEY=VALUE", help="of the backbone")
    parser.add_argument("--finetune", action="store_true", help="train the backbone, too")
    parser.add_argument("--epochs", type=whole(1, 100_000), default=5, help="of --finetune")
    parser.add_argument("--lr", type=RATE, default=1e-4, help="of --finetune (AdamW)")
    parser.add_argument(
        "--held-out",
        type=number(0, 1, below=True),
        default=0.3,
        help="share of each person's photos kept from training",
    )
    parser.add_argument("--seed", type=SEED, default=0)
    _common(parser)


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="the model folder")
    parser.add_argument(
        "--person", required=True, nargs="+", action="extend", metavar="NAME", help=f"people to forget, {BY_NAME}"
    )
    parser.add_argument(
        "--photos", required=True, metavar="DIR", help="their photos, one folder each; nothing else is read to unlearn"
    )
    parser.add_argument("--eval", metavar="DIR", help="held-out photos of everyone, for figures alone")
    add_work_dir_arguments(parser, "erased/, results.json, the record and the picture")
    parser.add_argument("--keep-row", action="store_true", help="leave the people's rows in the identity head")
    parser.add_argument("--force", action="store_true", help="use photos that do not look like the person, too")
    parser.add_argument(
        "--method", default="DELETE", help="DELETE (default), HeadOnly, RandomLabel or NegativeGradient"
    )
    parser.add_argument(
        "--trained",
        default="embedding",
        choices=["embedding", "embedder"],
        help="what may change: the layer that makes the embedding (default), or the whole embedder",
    )
    parser.add_argument("--steps", type=STEPS, help="optimizer steps, at most")
    parser.add_argument("--lr", type=RATE, help="of the optimizer")
    parser.add_argument("--batch-size", type=BATCH_SIZE, help="photos a step")
    parser.add_argument("--sharpen", type=TEMPERATURE, help="what the teacher's logits are divided by")
    parser.add_argument("--stop", type=STOP, help="stop once the people keep this share of their probability")
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument("--wide", action="store_true", help="a table with every false accept rate")
    add_record_arguments(parser)
    _common(parser)


def _add_identify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="the model folder")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders that hold some")
    parser.add_argument(
        "--threshold", type=number(-1e6, 1e6), help="below it nobody is named (default: the model's own)"
    )
    parser.add_argument("--top", type=whole(1), default=3, help="how many people are listed for each face")
    _common(parser)


def add_attention_arguments(group: argparse._ArgumentGroup) -> None:
    """What ``delete-tasks attention`` may be told of photos."""
    group.add_argument("--aligned", action="store_true", help="photos are cut and turned to the face already")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    use_device(args.device)
    console = make_console()
    options = vars(args)
    if args.action == "align":
        from .prepare import align

        align(options, console)
    elif args.action == "enroll":
        from .enroll import enroll

        refuse_existing(args.out, [args.photos, *([args.weights] if args.weights else [])], args.overwrite)
        options["backbone_arguments"] = read_arguments(args.arguments)
        enroll(options, console)
    elif args.action == "remove":
        from .remove import remove

        record = record_options(args)
        with claim_work_dir(options, [args.model], people=sorted(args.person), photos=args.photos):
            return remove({**options, "record": record}, console)["exit_status"]
    else:
        from .identify import identify

        identify(options, console)
    return 0
