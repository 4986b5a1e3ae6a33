"""Command ``delete-tasks attention``."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from ..cli.command import DATA_SET, MODEL_FOLDER, OUT, argument, command, data, evaluation
from ..cli.options import ALLOW_IMPORT, BY_NAME, DEVICE, overwrite, plugin_options, whole
from ..display.terminal import make_console
from ..errors import RequestError
from ..fileio.atomic import refuse_existing


@command(
    "attention",
    "Draw and measure the attention of models, before and after.",
    argument(
        "inputs",
        nargs=-1,
        type=DATA_SET,
        metavar="[INPUTS...]",
        help="Images or data, as the commands of the task take them.",
    ),
    data("--original", type=MODEL_FOLDER, required=True, help="Original model (folder or checkpoint)."),
    data("--erased", type=MODEL_FOLDER, required=True, help="Erased model."),
    data("--retrained", type=MODEL_FOLDER, help="Model trained without the class, for a further column."),
    data("--class", "class_name", required=True, metavar="NAME", help=f"Forgotten class, {BY_NAME}."),
    data(
        "--retain-classes",
        "kept",
        many=True,
        metavar="NAME...",
        help=f"Other classes to compare, {BY_NAME}. [default: those of the samples]",
    ),
    data("--task", metavar="TASK", help="Task of the models. [default: detected]"),
    *plugin_options(),
    evaluation("--layer", metavar="NAME", help="Layer to measure. [default: the last map before the classifier]"),
    evaluation("--limit", type=whole(1), default=60, help="Samples of each kind to measure."),
    evaluation("--show", type=whole(1, 1000), default=3, help="Samples of each kind to draw."),
    data(
        "--out",
        type=OUT,
        default="attention.png",
        help="Picture (.png, .jpg); the figures are written beside it (.json).",
    ),
    overwrite("an existing picture and its figures"),
    DEVICE,
    ALLOW_IMPORT,
)
def COMMAND(args: SimpleNamespace) -> int:
    from ..fileio.atomic import save_json
    from ..task import open_models
    from .measure import compare_samples, spread_samples, summarise, table
    from .panels import SUFFIXES, draw

    out = Path(args.out)
    if out.suffix not in SUFFIXES:
        raise RequestError(f"--out takes a file that ends in {', '.join(SUFFIXES)}; got '{args.out}'")
    for path in (args.out, out.with_suffix(".json")):
        refuse_existing(path, args.inputs, args.overwrite)
    options = vars(args)
    paths = {name: options[name] for name in ("original", "erased", "retrained") if options[name] is not None}
    use = "attention: its plugin has no samples to look at"
    task, opened = open_models(paths, {}, options, use, lambda opened: opened.look is not None)
    layer, comparisons = compare_samples(opened, args.inputs, args.class_name, args.kept, args.limit, args.layer)
    content: dict[str, Any] = {
        "task": task.name,
        "layer": layer,
        "notes": list(opened.notes),
        "summary": summarise(comparisons, list(opened.models)),
        "samples": table(comparisons, opened.names),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_json(content, out.with_suffix(".json"))
    draw(out, spread_samples(comparisons, args.show), opened.names)
    console = make_console()
    print_summary(content, console)
    console.print(f"Written: {out}, {out.with_suffix('.json')}")
    return 0


HEADS = {"own": "", "original": " (original's last layer)"}


def print_summary(content: dict[str, Any], console: Console) -> None:
    """Print medians and the number of samples behind them."""
    for note in content["notes"]:
        console.print(f"Note: {note}")
    console.print(f"Layer: {content['layer']}")
    for name, row in content["summary"].items():
        removed, kept = row["removed"], row["kept"]
        name += HEADS[removed["last_layer"]]
        console.print(
            f"{name}: forgotten, {removed['samples']} samples: median A / A of the original {_cell(removed['ratio'])}"
            f"{_left_out(removed)}; share of attention in the region {_cell(removed['share_before'], '%')} before, "
            f"{_cell(removed['share_after'], '%')} after. Kept, {kept['samples']} samples: median correlation "
            f"{_cell(kept['correlation'])}{_left_out(kept)}"
        )


def _left_out(row: dict[str, Any]) -> str:
    return f" ({row['unmeasured']} not measured)" if row["unmeasured"] else ""


def _cell(value: float | None, unit: str = "") -> str:
    return "NOT MEASURED" if value is None else f"{value:.3g}{unit}"
