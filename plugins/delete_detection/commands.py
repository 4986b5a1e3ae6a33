"""``delete-tasks detection import|forget``."""

from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import click

from delete_images.arguments import DESCRIPTION, MODEL_FOLDER, described_spec
from delete_tasks.cli import options as shared
from delete_tasks.cli.command import FILE, OUT, File, Group, argument, command, data, evaluation, recipe
from delete_tasks.display.terminal import make_console
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.fileio.validate import read_json
from delete_tasks.report.finish import tell_before, tell_next

PICTURES = "folder of images, or COCO annotations (.json) beside their images"


@command(
    "import",
    "Make a model folder from a weights file of a detector; --classes takes COCO annotations (.json) for their names as well.",
    argument("weights", type=FILE, help="State dict (.pth, .pt, .safetensors)."),
    argument("folder", type=OUT, help="Model folder to write."),
    shared.overwrite("an existing model"),
    *(option for option in DESCRIPTION if option.name not in ("size", "resize", "crop_fraction")),
    recipe(
        "--size",
        type=shared.whole(32, 8192),
        many=True,
        default=[416],
        metavar="N...",
        help="Input size: one side, or height and width; images are scaled to fit, at the top left.",
    ),
    shared.ALLOW_IMPORT,
)
def import_(args: SimpleNamespace) -> None:
    from msgspec.structs import replace

    if len(args.classes) == 1 and args.classes[0].endswith(".json"):
        try:
            args.classes = [
                each["name"] for each in sorted(read_json(args.classes[0])["categories"], key=itemgetter("id"))
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"'{args.classes[0]}' holds no COCO categories (id, name); give the class names"
            ) from error
    args.resize, args.crop_fraction = "stretch", 1.0  # of classifiers
    spec, source = replace(described_spec(args), extra={"detector": True}), f"'{args.weights}'"
    refuse_existing(args.folder, [args.weights], args.overwrite)
    from delete_images.models.model_file import import_state
    from delete_tasks.fileio.checkpoint import load_file, state_dict_of

    state = state_dict_of(load_file(Path(args.weights)), source)
    folder = import_state(state, source, args.folder, spec, args.allow_import)
    make_console().print(f"Written: {folder} ({spec.architecture}, {len(spec.classes)} classes)")


@command(
    "forget",
    "Make a detector forget classes.",
    data("--model", type=MODEL_FOLDER, required=True, help="Folder of the model."),
    data("--images", type=File("DATA"), required=True, help=f"Images that show the classes: {PICTURES}."),
    data("--classes", many=True, required=True, metavar="NAME...", help=f"Classes to forget, {shared.BY_NAME}."),
    *shared.work_dir_options("erased/, results.json, the record and the picture"),
    recipe("--steps", type=shared.STEPS, help="Optimizer steps. [default: 300]"),
    recipe("--lr", type=shared.RATE, help="AdamW learning rate. [default: 1e-4]"),
    recipe("--batch-size", type=shared.BATCH_SIZE, help="Views per step and process. [default: 8]"),
    shared.INTO,
    recipe(
        "--select",
        type=click.Choice(["labels", "teacher"]),
        help="Images to use: those annotated with the classes, or those in which the original sees them. "
        "[default: labels of annotations; of a folder, teacher]",
    ),
    recipe("--keep-row", is_flag=True, flag_value=True, default=None, help="Keep the class weights."),
    evaluation("--test", type=File("DATA"), help=f"Test images, for the table: {PICTURES}."),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
    *shared.record_panel(),
    shared.LOADERS,
    shared.ALLOW_IMPORT,
    *shared.machine_panel("0"),
    short="--overwrite --steps --lr --test --resume --device --dry-run",
)
def forget(args: SimpleNamespace) -> int:
    from delete_images.arguments import check_classes
    from delete_tasks.report.record.options import record_options
    from delete_tasks.request.config import parse_options

    options, record = vars(args) | {"cfg_options": parse_options(args.cfg_options)}, record_options(args)
    check_classes(args.model, args.classes, into=args.into)
    from delete_images.models.spec import load_spec

    from . import forget

    console, cfg = make_console(), forget.make_config(options)
    cfg.record = record
    if args.dry_run:
        forget.dry_run(cfg, args, console)
        return 0
    names = load_spec(args.model).classes
    with shared.claim_work_dir(vars(args), [args.model], names, classes=args.classes, data=args.images):
        tell_before(console, args, args.classes, args.model, args.images, cfg.unlearn)
        results = forget.run(cfg, args, console)
    return tell_next(console, args, results)


COMMAND = Group("detection", "Make a detector forget classes, and measure before and after.", [forget, import_])
