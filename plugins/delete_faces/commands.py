"""``delete-tasks faces align|enroll|import|embed|remove|update|identify``."""

import os
from types import SimpleNamespace

import click

from delete_images.arguments import MODEL_FOLDER, check_classes
from delete_tasks.cli import options as shared
from delete_tasks.cli.command import DIR, FILE, OUT, File, Group, Output, argument, command, data, evaluation, recipe
from delete_tasks.display.terminal import make_console
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.fileio.inputs import refuse_inputs
from delete_tasks.report.finish import tell_before, tell_next

PHOTOS_HELP = "folder with one folder per person (or train/ and test/ with those)"

HEAD = click.Choice(["cosine", "linear"])
MODEL = data("--model", type=MODEL_FOLDER, required=True, help="Model folder.")
PHOTOS = data("--photos", type=DIR, required=True, help=f"Photos: {PHOTOS_HELP}.")
ALIGNED = data("--aligned", is_flag=True, help="Photos are cropped and aligned to the face already.")
LARGEST_FACE = data("--largest-face", is_flag=True, help="Use the largest central face of photos with several faces.")
PROCESSES = shared.machine(
    "--processes", type=shared.whole(1, 1024), help="Processes that detect faces. [default: one per core, on a CPU]"
)
BACKBONE = recipe(
    "--backbone",
    metavar="NAME",
    default="mobilefacenet",
    help="Backbone: mobilefacenet, inception_resnet_v1, an architecture of images, or package.module:Class.",
)
# How commands read photos.
READING = (ALIGNED, LARGEST_FACE, PROCESSES, shared.DEVICE, shared.ALLOW_IMPORT)
NEW_MODEL = (
    data("--out", type=Output("MODEL"), required=True, help="Model folder to write."),
    shared.overwrite("an existing model"),
)
BACKBONE_OPTIONS = (
    recipe("--embedding-size", type=shared.whole(1, 65_536), help="Embedding size, if the backbone allows a choice."),
    recipe("--arguments", many=True, metavar="KEY=VALUE...", help="Arguments of the backbone."),
    recipe(
        "--normalization",
        type=click.Choice(["none", "imagenet", "half"]),
        help="Input normalisation. [default: the backbone's; half, of ArcFace, for .onnx]",
    ),
)
# Options of `delete-tasks attention` for this task.
ATTENTION_OPTIONS = [data("--aligned", is_flag=True, help="For faces: photos are already cropped and aligned.")]


def _held_out(use: str) -> click.Option:
    return data(
        "--held-out", type=shared.number(0, 1, below=True), default=0.3, help=f"Share of each person's photos {use}."
    )


@command(
    "align",
    "Detect and align faces once, for commands with --aligned.",
    PHOTOS,
    data("--out", type=Output("DIR"), required=True, help="Output folder of the faces: DIR/train and DIR/test."),
    recipe("--backbone", metavar="NAME", default="mobilefacenet", help="Backbone that the faces are aligned for."),
    _held_out("that goes to DIR/test"),
    shared.seed(0, "Random seed of the choice of held-out photos."),
    LARGEST_FACE,
    PROCESSES,
    shared.DEVICE,
)
def align(args: SimpleNamespace) -> None:
    from .gallery.enroll import align

    align(vars(args), make_console())


@command(
    "enroll",
    "Make a model from photos of people.",
    PHOTOS,
    data("--test", "eval", type=DIR, help="Held-out photos. [default: a share of each person's photos]"),
    BACKBONE,
    data(
        "--weights",
        type=File("FILE", any_text=True),
        help="Weights of the backbone: a file, or the whole embedder as .onnx; for inception_resnet_v1 also vggface2 or "
        "casia-webface (downloaded).",
    ),
    *NEW_MODEL,
    recipe("--head", type=HEAD, default="cosine", help="Identity head."),
    recipe("--scale", type=shared.number(0, 10_000, above=True), help="Scale of a cosine head. [default: 30]"),
    *BACKBONE_OPTIONS,
    _held_out("that is held out from training"),
    shared.seed(0),
    *READING,
)
def enroll(args: SimpleNamespace) -> None:
    from .gallery.enroll import enroll

    refuse_existing(args.out, [args.photos, *([args.weights] if args.weights else [])], args.overwrite)
    enroll(vars(args), make_console())


@command(
    "import",
    "Make a model folder from an embedder with a head or gallery.",
    data("--weights", type=FILE, required=True, help="Embedder: weights, and its head's if it has one; or an .onnx."),
    data("--head-weights", type=FILE, help="Weights of the identity head, if in a separate file."),
    data("--gallery", type=FILE, help="Templates in place of a head: .npz with embeddings (n, D) and names (n,)."),
    data(
        "--names",
        type=FILE,
        help="People in the order of the head's outputs, one per line or a JSON list. [default: person_0, ...]",
    ),
    data("--photos", type=DIR, help=f"Photos for faces remove: {PHOTOS_HELP}."),
    *NEW_MODEL,
    BACKBONE,
    *BACKBONE_OPTIONS,
    recipe("--head", type=HEAD, help="Identity head. [default: linear if it has a bias, else cosine]"),
    recipe("--scale", type=shared.number(0, 10_000, above=True), help="Scale of a cosine head. [default: 64]"),
    ALIGNED,
    LARGEST_FACE,
    shared.ALLOW_IMPORT,
)
def import_model(args: SimpleNamespace) -> None:
    from .gallery.imports import import_model

    read = [args.weights, args.head_weights, args.gallery, args.names]
    refuse_existing(args.out, [path for path in read if path], args.overwrite)
    import_model(vars(args), make_console())


@command(
    "embed",
    "Make a gallery of templates from photos of people.",
    MODEL,
    PHOTOS,
    data("--out", type=OUT, required=True, help=".npz file to write: embeddings of length 1, and names."),
    shared.overwrite("an existing file"),
    *READING,
)
def embed(args: SimpleNamespace) -> None:
    from .gallery.imports import embed_photos

    refuse_existing(args.out, [args.photos], args.overwrite, suffix=".npz")
    embed_photos(vars(args), make_console())


@command(
    "update",
    "Carry stored templates over to an erased model, without photos.",
    argument(
        "stores",
        type=File("STORE", any_text=True),
        nargs=-1,
        required=True,
        metavar="STORE...",
        help="Templates: .npz; .npy with a .csv of names; postgresql://...?table=NAME; or package.module:Class.",
    ),
    data("--original", type=MODEL_FOLDER, required=True, help="Model folder that made the templates."),
    data("--erased", type=MODEL_FOLDER, required=True, help="Model folder of faces remove: W/erased."),
    data("--out", type=OUT, help="File to write, for one STORE in a file. [default: STORE itself, with --overwrite]"),
    data("--receipt", type=OUT, help="Receipt to write: .json, and .html beside it. [default: FILE.json for one file]"),
    data("--photos", type=DIR, help=f"People whose photos have no template are listed: {PHOTOS_HELP}."),
    shared.overwrite("an existing --out and --receipt or, without --out, each STORE"),
    shared.DRY_RUN,
    shared.ALLOW_IMPORT,
)
def update(args: SimpleNamespace) -> int:
    from .stores.update import check_places, update_stores

    receipt = update_stores({**vars(args), "receipt": check_places(args)}, make_console())
    return int(not args.dry_run and not all(leg["changed"] for leg in receipt["stores"]))


@command(
    "remove",
    "Make a model forget people.",
    MODEL,
    data("--person", many=True, required=True, metavar="NAME...", help=f"People to forget, {shared.BY_NAME}."),
    data(
        "--photos",
        type=DIR,
        help="Their photos, one folder each; only these are read, unless --retain is given. [default: those of faces enroll]",
    ),
    data(
        "--from-templates",
        "templates",
        type=File("STORE", any_text=True),
        help="Store with their templates, in place of photos that were deleted; 'gallery' is the one beside the model. Without a "
        "template of the person the embedder is not changed.",
    ),
    data(
        "--retain",
        type=File("STORE", any_text=True),
        help="Templates (a store) or photos of people who stay, one folder each: their embeddings are kept nearer to the "
        "original's, and fewer pairs match. [default: none are read]",
    ),
    *shared.work_dir_options("erased/, results.json, the record and the picture"),
    data("--force", is_flag=True, help="Accept photos that do not look like the person."),
    shared.method(retain=False, default="DELETE"),
    recipe(
        "--trained",
        type=click.Choice(["embedding", "embedder"]),
        default="embedding",
        help="Trained part: the layer that makes the embedding, or the whole embedder.",
    ),
    recipe(
        "--directions",
        type=shared.whole(0, 65_536),
        help="Directions per person to project out of the embedding; 0: none. [default with DELETE: 4; 2 for several people]",
    ),
    recipe("--steps", type=shared.STEPS, help="Optimizer steps, at most. [default: by method]"),
    recipe("--lr", type=shared.RATE, help="Learning rate. [default: by method and head]"),
    recipe("--batch-size", type=shared.BATCH_SIZE, help="Photos per step. [default: by method]"),
    shared.TEACHER_TEMPERATURE,
    recipe("--stop", type=shared.STOP, help="Share of the people's probability at or below which training ends."),
    recipe(
        "--threshold",
        metavar="far=RATE",
        help="Threshold of the erased model for faces identify: the cosine that this share of pairs of photos of two people in "
        "--test reaches, e.g. far=1e-3. [default: the original's]",
    ),
    recipe("--keep-row", is_flag=True, help="Keep the people's class weights in the identity head."),
    evaluation(
        "--test",
        "eval",
        type=File("DIR", any_text=True),
        help="Held-out photos of all people, for figures only; 'none' measures nothing. [default: those of faces enroll]",
    ),
    evaluation("--wide", is_flag=True, help="Print all columns of the table: every false accept rate."),
    *shared.record_panel(),
    shared.seed(0),
    *READING,
    shared.VERBOSE,
    short="--photos --from-templates --retain --overwrite --method --steps --lr --test --aligned --show-names --no-record "
    "--resume --device",
)
def remove(args: SimpleNamespace) -> int:
    from delete_images.models.spec import load_spec
    from delete_tasks.report.record.options import record_options

    record = record_options(args)
    request = {"people": sorted(args.person), "photos": args.photos, "templates": args.templates, "retain": args.retain}
    with shared.claim_work_dir(vars(args), [args.model], load_spec(args.model).classes, **request):
        check_classes(args.model, args.person)
        from .remove import remove, shown

        console = make_console()
        recipe = {"type": args.method, "steps": args.steps, "batch_size": args.batch_size}
        read = args.photos or "the photos that the model was made from"
        read = read if args.templates is None else f"the stored templates in {shown(args.templates)}"
        read += f" and, of people who stay, {shown(args.retain)}" if args.retain else ""
        tell_before(console, args, args.person, args.model, read, recipe)
        results = remove({**vars(args), "record": record}, console)
    return tell_next(console, args, results)


@command(
    "identify",
    "Identify the people on photos.",
    MODEL,
    argument(
        "photos",
        type=File("FILE", any_text=True),
        nargs=-1,
        required=True,
        metavar="PHOTO...",
        help="Image files, or folders of images.",
    ),
    evaluation(
        "--threshold", type=shared.number(-1e6, 1e6), help="Score below which a face is unknown. [default: the model's]"
    ),
    evaluation("--top", type=shared.whole(1), default=3, help="People to list for each face."),
    evaluation("--person", many=True, metavar="NAME...", help="List only these people's faces, by the threshold."),
    evaluation("--out", type=OUT, help="File to list the faces in (.json)."),
    shared.overwrite("an existing file"),
    *READING,
)
def identify(args: SimpleNamespace) -> None:
    from .gallery.identify import identify

    if args.out is not None:
        refuse_inputs(args.out, [], [args.model])
        refuse_existing(args.out, filter(os.path.isfile, args.photos), args.overwrite, suffix=".json")
    identify(vars(args), make_console())


COMMAND = Group(
    "faces",
    "Remove people from a face-identification model, and measure before and after.",
    [align, enroll, import_model, embed, remove, update, identify],
)
