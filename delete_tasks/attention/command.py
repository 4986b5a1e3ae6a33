"""``delete-tasks attention``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from rich.console import Console

from ..cli import use_device
from ..errors import MissingExtraError, RequestError
from ..masking import BY_NAME
from ..options import whole
from ..task import plugin_modules
from ..terminal import make_console
from ..workdir import refuse_existing

DESCRIPTION = "Show where a model looks, before and after: Grad-CAM on one scale, and figures beside it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments, the installed plugins' own among them."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUTS", help="images or data, as the task's other commands take them"
    )
    parser.add_argument("--original", required=True, help="the model before (a model folder, or a checkpoint)")
    parser.add_argument("--erased", required=True, help="the model after")
    parser.add_argument("--retrained", help="a model that never saw the class, for a further column")
    parser.add_argument(
        "--class", dest="class_name", required=True, metavar="NAME", help=f"the class that was forgotten, {BY_NAME}"
    )
    parser.add_argument(
        "--kept",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"kept classes to compare, {BY_NAME} (default: as found)",
    )
    parser.add_argument("--layer", help="layer to look at (default: the last map before the classifier)")
    parser.add_argument(
        "--limit", type=whole(1), default=60, help="samples of each kind that are measured (default: 60)"
    )
    parser.add_argument(
        "--show", type=whole(1, 1000), default=3, help="samples of each kind in the picture (default: 3)"
    )
    parser.add_argument(
        "--out", default="attention.png", help="the picture (.png, .jpg); the figures go beside it as .json"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a picture and figures that are there")
    parser.add_argument("--task", help="whose models these are (default: found out)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument(
        "--allow-import", action="store_true", help="run the code of an architecture named by import path"
    )
    for name, module in sorted(plugin_modules().items()):
        try:
            commands = importlib.import_module(f"{module}.commands")
        except MissingExtraError:
            continue
        if hasattr(commands, "add_attention_arguments"):
            commands.add_attention_arguments(parser.add_argument_group(f"for {name}"))


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    use_device(args.device)
    from ..checkpoint import save_json
    from .look import look_at, open_models
    from .measure import summarise, table
    from .panels import SUFFIXES, draw

    if Path(args.out).suffix not in SUFFIXES:
        raise RequestError(f"--out takes a file that ends in {', '.join(SUFFIXES)}; got '{args.out}'")
    for path in (args.out, Path(args.out).with_suffix(".json")):
        refuse_existing(path, args.inputs, args.overwrite)
    options = vars(args)
    paths = {name: options[name] for name in ("original", "erased", "retrained") if options[name] is not None}
    task, opened = open_models(paths, options, args.task)
    layer, looks = look_at(task, opened, args.inputs, args.class_name, args.kept, args.limit, args.layer, options)
    content: dict[str, Any] = {
        "task": task.name,
        "layer": layer,
        "notes": list(opened.notes),
        "summary": summarise(looks, list(opened.models)),
        "samples": table(looks, opened.class_names),
    }
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_json(content, out.with_suffix(".json"))
    draw(out, shown(looks, args.show), opened.class_names)
    tell(content, make_console())
    print(f"Written: {out}, {out.with_suffix('.json')}")
    return 0


def shown(looks: list[Any], each: int) -> list[Any]:
    """Up to ``each`` looks at forgotten and at kept samples, spread evenly over all of them."""
    chosen = []
    for removed in (True, False):
        kind = [look for look in looks if look.sample.removed == removed]
        step = max(1, len(kind) // each)
        chosen += kind[::step][:each]
    return chosen


def tell(content: dict[str, Any], console: Console) -> None:
    """Print medians and what they were taken over."""
    for note in content["notes"]:
        console.print(f"Note: {note}")
    console.print(f"Layer: {content['layer']}")
    for name, row in content["summary"].items():
        removed, kept = row["removed"], row["kept"]
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
