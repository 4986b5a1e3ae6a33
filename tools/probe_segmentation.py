"""Fit a pixel probe on the features of one or more checkpoints and print the IoU at which it reads each class.

python tools/probe_segmentation.py CONFIG --checkpoints ORIGINAL ERASED --classes car [--hidden 128 | --neighbours]
"""

import argparse
import copy
import json
import math
import sys

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from rich.console import Console
from rich.table import Table

import delete_mmseg  # noqa: F401
from delete_mmseg.checks import check_apart
from delete_mmseg.files import ignored_labels
from delete_mmseg.probe import probe_ious
from delete_tasks.display.terminal import quiet
from delete_tasks.errors import USER_ERRORS
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.request.config import load_config
from delete_tasks.runner.recipe import no_downloads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--checkpoints", nargs="+", required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--pixels", type=int, default=300, help="places drawn from each training image")
    parser.add_argument("--hidden", type=int, default=0, help="hidden units of the probe (default: none, a linear one)")
    parser.add_argument(
        "--neighbours", action="store_true", help="the vote of ten neighbours by angle, not a trained probe"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", help="write the figures as JSON")
    args = parser.parse_args()
    if args.neighbours and args.hidden:
        parser.error("--hidden is of a trained probe, and --neighbours is none; give one of them")
    torch.set_flush_denormal(True)

    cfg = load_config(args.config)
    init_default_scope(cfg.get("default_scope", "mmseg"))
    no_downloads(cfg.model)
    train_cfg = copy.deepcopy(cfg.train_dataloader.dataset)
    train_cfg.pipeline = cfg.test_dataloader.dataset.pipeline
    train, test = DATASETS.build(train_cfg), DATASETS.build(cfg.test_dataloader.dataset)
    check_apart(test, train, "train")
    names = test.metainfo["classes"]
    kind = f"pixel probe with {args.hidden} hidden units" if args.hidden else "linear pixel probe"
    kind = "vote of neighbours" if args.neighbours else kind
    table = Table(title=f"IoU (percent) at which a {kind} reads a class")
    for column in ("checkpoint", *args.classes, "mean of the others"):
        table.add_column(column)
    results = {}
    for path in args.checkpoints:
        model = MODELS.build(cfg.model)
        if args.device == "cpu":
            from mmengine.model import revert_sync_batchnorm

            model = revert_sync_batchnorm(model)
        load_weights(model, path)
        model, ignored = model.to(args.device).eval(), ignored_labels(cfg, test)
        read = probe_ious(
            model, train, test, names, args.pixels, hidden=args.hidden, neighbours=args.neighbours, ignored=ignored
        )
        # Classes that no test image shows have no IoU.
        read = {name: value for name, value in read.items() if not math.isnan(value)}
        results[path] = read
        others = [value for name, value in read.items() if name not in args.classes]
        columns = [*(read.get(name) for name in args.classes), sum(others) / len(others) if others else None]
        table.add_row(path, *("NOT MEASURED" if value is None else f"{value:.2f}" for value in columns))
    Console(width=120).print(table)
    if args.out:
        save_json(results, args.out)
    else:
        print(json.dumps(results))


if __name__ == "__main__":
    try:
        with quiet():
            main()
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
