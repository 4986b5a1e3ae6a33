"""Make the tables of docs/benchmarks/faces.md: enroll people of LFW, remove some, and measure identification and verification.

    python tools/benchmark_faces.py --photos ../shared/data/lfw --weights ../shared/weights/mobilefacenet_foamliu.pt --out W

Faces are aligned once (``faces align``) and split by photo; then ``faces enroll`` and ``faces remove`` run for each head.
W/tables.md holds the tables, W/figures.json the numbers. Finished parts are not repeated.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from delete_faces.gallery.enroll import enroll
from delete_faces.gallery.prepare import align
from delete_faces.remove import remove
from delete_tasks.fileio.atomic import save_json, save_text

REQUESTS = {
    "Colin_Powell": ["Colin_Powell"],
    "Serena_Williams": ["Serena_Williams"],
    "Junichiro_Koizumi": ["Junichiro_Koizumi"],
    "five": ["Tony_Blair", "Laura_Bush", "Jennifer_Capriati", "Hugo_Chavez", "Gloria_Macapagal_Arroyo"],
}
COMMON = {"aligned": True, "largest_face": False, "device": None, "allow_import": False, "seed": 0}


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--heads", nargs="*", default=["cosine", "linear"])
    parser.add_argument("--held-out", type=float, default=0.5)
    parser.add_argument("--requests", nargs="*", default=list(REQUESTS), help="default: all")
    args = parser.parse_args()
    console = Console(width=160)
    args.out.mkdir(parents=True, exist_ok=True)
    figures = _figures(args.out)
    faces = args.out / "faces"
    if "align" not in figures:
        options = {**COMMON, "photos": args.photos, "out": str(faces), "backbone": "mobilefacenet"}
        options |= {"held_out": args.held_out, "largest_face": True}
        _keep(args.out, "align", partial(align, options, console))
    for head in args.heads:
        model = args.out / f"model_{head}"
        if f"enroll_{head}" not in _figures(args.out):
            _keep(args.out, f"enroll_{head}", partial(enroll, _enroll_options(args, faces, model, head), console))
        for name in args.requests:
            if f"{head}_{name}" not in _figures(args.out):
                _keep(
                    args.out,
                    f"{head}_{name}",
                    partial(remove, _remove_options(args, faces, model, head, name), console),
                )
    text = tables(_figures(args.out))
    save_text(text, args.out / "tables.md")
    print(text)


def _figures(out: Path) -> dict[str, Any]:
    return json.loads((out / "figures.json").read_text()) if (out / "figures.json").is_file() else {}


def _keep(out: Path, name: str, run: Any) -> None:
    begin, cpu = time.monotonic(), time.process_time()
    figures = run()
    # Processor time measures the work; the wall clock depends on the machine's other work.
    took = {"wall_s": round(time.monotonic() - begin, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    save_json({**_figures(out), name: {**figures, "took": took}}, out / "figures.json")


def _enroll_options(args: Any, faces: Path, model: Path, head: str) -> dict[str, Any]:
    return {
        **COMMON,
        "photos": str(faces),
        "eval": None,
        "out": str(model),
        "backbone": "mobilefacenet",
        "weights": args.weights,
        "head": head,
        "scale": None,
        "embedding_size": None,
        "backbone_arguments": {},
        "held_out": args.held_out,
    }


def _remove_options(args: Any, faces: Path, model: Path, head: str, name: str) -> dict[str, Any]:
    return {
        **COMMON,
        "model": str(model),
        "person": REQUESTS[name],
        "photos": str(faces),
        "eval": str(faces),
        "work_dir": os.fspath(args.out / f"{head}_{name}"),
        "keep_row": False,
        "force": False,
        "method": "DELETE",
        "trained": "embedding",
        "resume": False,
        **dict.fromkeys(("steps", "lr", "batch_size", "teacher_temperature", "stop")),
    }


def tables(figures: dict[str, Any]) -> str:
    """Write the figures as Markdown."""
    lines = []
    aligned = figures.get("align")
    if aligned:
        lines.append(
            f"MTCNN: a face on {aligned['found']} of {aligned['photos']} photos, several on {aligned['several']}; "
            f"{aligned['took']['cpu_s'] / aligned['photos']:.3f} s of processor time per photo.\n"
        )
    lines += ["| model | people | photos | held out | identified | processor time |", "|---|---|---|---|---|---|"]
    for name, row in figures.items():
        if name.startswith("enroll_"):
            lines.append(
                f"| {name[7:]} head | {row['people']} | {row['training_photos']} | {row['held_out_photos']} | "
                f"{_cell(row['held_out_rate'])} | {row['took']['cpu_s']:.0f} s |"
            )
    lines += [
        "",
        "| head | removed | row | removed identified | others identified | removed TAR@1e-2 | @1e-3 | others TAR@1e-2 | @1e-3 | "
        "removed taken for others @1e-3 | others' NLL | others' ECE |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    runs = {name: row for name, row in figures.items() if "rows" in row}
    for name, run in runs.items():
        head, _, who = name.partition("_")
        for row, values in run["rows"].items():
            names = [
                "identified",
                "others_identified",
                "verified",
                "verified_1e3",
                "others_verified",
                "others_verified_1e3",
                "verified_as_others_1e3",
                "nll",
                "ece",
            ]
            cells = [_cell(values[metric]["value"]) for metric in names]
            lines.append(f"| {head} | {who} | {row} | {' | '.join(cells)} |")
    lines += [
        "",
        "| head | removed | photos read | steps | processor time, unlearning and figures | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        head, _, who = name.partition("_")
        lines.append(
            f"| {head} | {who} | {run['forget_set']['read']} | {run['steps']} | {run['took']['cpu_s']:.0f} s | "
            f"{run['details']['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
