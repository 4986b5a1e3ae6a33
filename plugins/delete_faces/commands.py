"""``delete-tasks faces align|enroll|remove|identify``."""

from __future__ import annotations

from types import SimpleNamespace

import click

from delete_tasks.cli.command import DATA, EVALUATION, FILE, RECIPE, Group, argument, command, option
from delete_tasks.cli.device import use_device
from delete_tasks.cli.summary import tell_before, tell_next
from delete_tasks.options import (
    ALLOW_IMPORT,
    BATCH_SIZE,
    BY_NAME,
    DEVICE,
    RATE,
    STEPS,
    STOP,
    TEACHER_TEMPERATURE,
    VERBOSE,
    claim_work_dir,
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

PHOTOS_HELP = "a folder with one folder of photos for each person (or train/ and test/ with those)"


MODEL = option("--model", panel=DATA, type=FILE, metavar="MODEL", required=True, help="The model folder.")
PHOTOS = option("--photos", panel=DATA, type=FILE, metavar="DIR", required=True, help=f"Photos: {PHOTOS_HELP}.")
ALIGNED = option("--aligned", panel=DATA, is_flag=True, help="Photos are cut and turned to the face already.")
LARGEST_FACE = option(
    "--largest-face", panel=DATA, is_flag=True, help="Of several faces on a photo take the largest central one."
)
# Options of `delete-tasks attention` for this task.
ATTENTION_OPTIONS = [
    option("--aligned", panel=DATA, is_flag=True, help="For faces: photos are cut and turned to the face already.")
]


def _held_out(of: str) -> click.Option:
    return option(
        "--held-out",
        panel=DATA,
        type=number(0, 1, below=True),
        default=0.3,
        help=f"Share of each person's photos {of}.",
    )


@command(
    "align",
    "Find faces in photos once, for commands with --aligned.",
    PHOTOS,
    option("--out", panel=DATA, type=FILE, metavar="DIR", required=True, help="Faces go to OUT/train and OUT/test."),
    option(
        "--backbone", panel=RECIPE, metavar="NAME", default="mobilefacenet", help="Whose frame faces are brought into."
    ),
    _held_out("for OUT/test"),
    seed(0, "Of the choice of held-out photos."),
    LARGEST_FACE,
    DEVICE,
    ALLOW_IMPORT,
)
def align(args: SimpleNamespace) -> None:
    use_device(args.device)
    from .prepare import align

    align(vars(args), make_console())


@command(
    "enroll",
    "Make a model from photos of people.",
    PHOTOS,
    option(
        "--test",
        "eval",
        panel=DATA,
        type=FILE,
        metavar="DIR",
        help="Held-out photos. [default: a share of each person's photos]",
    ),
    option(
        "--backbone",
        panel=RECIPE,
        metavar="NAME",
        default="mobilefacenet",
        help="mobilefacenet, inception_resnet_v1, an architecture of `images`, or package.module:Class.",
    ),
    option(
        "--weights",
        panel=DATA,
        type=FILE,
        metavar="FILE",
        help="Of the backbone: a file; for inception_resnet_v1 also vggface2 or casia-webface (fetched).",
    ),
    option("--out", panel=DATA, type=FILE, metavar="MODEL", required=True, help="The model folder."),
    overwrite("a model that is there"),
    option(
        "--head", panel=RECIPE, type=click.Choice(["cosine", "linear"]), default="cosine", help="The identity head."
    ),
    option("--scale", panel=RECIPE, type=number(0, 10_000, above=True), help="Of a cosine head. [default: 30]"),
    option("--embedding-size", panel=RECIPE, type=whole(1, 65_536), help="Of a backbone that leaves the choice."),
    option("--arguments", panel=RECIPE, many=True, metavar="KEY=VALUE...", help="Of the backbone."),
    option("--finetune", panel=RECIPE, is_flag=True, help="Train the backbone, too."),
    option("--epochs", panel=RECIPE, type=whole(1, 100_000), default=5, help="Of --finetune."),
    option("--lr", panel=RECIPE, type=RATE, default=1e-4, help="Of --finetune (AdamW)."),
    _held_out("kept from training"),
    seed(0),
    ALIGNED,
    LARGEST_FACE,
    DEVICE,
    ALLOW_IMPORT,
)
def enroll(args: SimpleNamespace) -> None:
    use_device(args.device)
    from delete_images.described import read_arguments

    from .enroll import enroll

    refuse_existing(args.out, [args.photos, *([args.weights] if args.weights else [])], args.overwrite)
    enroll({**vars(args), "backbone_arguments": read_arguments(args.arguments)}, make_console())


@command(
    "remove",
    "Make a model forget people.",
    MODEL,
    option("--person", panel=DATA, many=True, required=True, metavar="NAME...", help=f"People to forget, {BY_NAME}."),
    option(
        "--photos",
        panel=DATA,
        type=FILE,
        required=True,
        metavar="DIR",
        help="Their photos, one folder each; nothing else is read to unlearn.",
    ),
    *work_dir_options("erased/, results.json, the record and the picture"),
    option("--force", panel=DATA, is_flag=True, help="Use photos that do not look like the person, too."),
    method(retain=False, default="DELETE"),
    option(
        "--trained",
        panel=RECIPE,
        type=click.Choice(["embedding", "embedder"]),
        default="embedding",
        help="What may change: the layer that makes the embedding, or the whole embedder.",
    ),
    option("--steps", panel=RECIPE, type=STEPS, help="Optimizer steps, at most. [default: by method]"),
    option("--lr", panel=RECIPE, type=RATE, help="Of the optimizer. [default: by method and head]"),
    option("--batch-size", panel=RECIPE, type=BATCH_SIZE, help="Photos a step. [default: by method]"),
    TEACHER_TEMPERATURE,
    option("--stop", panel=RECIPE, type=STOP, help="Stop once the people keep this share of their probability."),
    option("--keep-row", panel=RECIPE, is_flag=True, help="Leave the people's rows in the identity head."),
    option(
        "--test",
        "eval",
        panel=EVALUATION,
        type=FILE,
        metavar="DIR",
        help="Held-out photos of everyone, for figures alone.",
    ),
    option("--wide", panel=EVALUATION, is_flag=True, help="Print a table with every false accept rate."),
    *record_panel(),
    seed(0),
    ALIGNED,
    LARGEST_FACE,
    DEVICE,
    ALLOW_IMPORT,
    VERBOSE,
)
def remove(args: SimpleNamespace) -> int:
    use_device(args.device)
    from delete_tasks.record import record_options

    from .remove import remove

    console = make_console()
    record = record_options(args)
    with claim_work_dir(vars(args), [args.model], people=sorted(args.person), photos=args.photos):
        recipe = {"type": args.method, "steps": args.steps, "batch_size": args.batch_size}
        tell_before(console, args, args.person, args.model, args.photos, recipe)
        results = remove({**vars(args), "record": record}, console)
    tell_next(console, args, args.model, results)
    return results["exit_status"]


@command(
    "identify",
    "Say who is on photos.",
    MODEL,
    argument("photos", type=FILE, nargs=-1, required=True, metavar="PHOTO...", help="Image files, or folders of them."),
    option(
        "--threshold",
        panel=EVALUATION,
        type=number(-1e6, 1e6),
        help="Below it nobody is named. [default: the model's own]",
    ),
    option("--top", panel=EVALUATION, type=whole(1), default=3, help="How many people are listed for each face."),
    ALIGNED,
    LARGEST_FACE,
    DEVICE,
    ALLOW_IMPORT,
)
def identify(args: SimpleNamespace) -> None:
    use_device(args.device)
    from .identify import identify

    identify(vars(args), make_console())


COMMAND = Group(
    "faces",
    "Remove people from a face-identification model, and measure before and after.",
    [align, enroll, remove, identify],
)
