"""What the erasure record tells of a segmentation run, and how its figures are measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from delete_tasks.progress import track
from delete_tasks.record import Figure, Look, RecordParts

from .evaluate import ForgetIoUMetric, figures
from .files import ignored_labels
from .looking import build_segmentor

NEEDED = ("model", "test_dataloader", "default_scope", "custom_imports")  # of a config, to measure again


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``segmentation``."""
    before, after = results["rows"]["original"], results["rows"]["erased"]
    dataset = runner.test_dataloader.dataset
    where = f"{len(dataset)} images of the config's test split ({type(dataset).__name__})"
    return RecordParts(
        [
            Figure("forget_iou", "forgotten classes' IoU", after["forget_iou"], "percent", 5.0, before["forget_iou"]),
            Figure("others_drop", "loss of the other classes' mean IoU over pixels that are not of a forgotten class",
                   drop(before["others_miou"], after["others_miou"]), "points", 2.0),
        ],
        pictures=[(str(Path(runner.work_dir) / "before_after.png"), "Test images, and what the original and the erased model "
                   "predict for each pixel.")],
        measurement=_measurement(runner),
        measured_on=where,
        look=Look(["test"], runner.forget_ids[0], {"config": runner.cfg}),
        limits=("A linear classifier on labelled pixels reads part of a forgotten class from the features; "
                "tools/probe_segmentation.py measures how much.",),
    )  # fmt: skip


def drop(before: float | None, after: float | None) -> float | None:
    """Points lost; None where either was not measured."""
    return None if before is None or after is None else round(before - after, 4)


def _measurement(runner: Any) -> dict[str, Any] | None:
    whole = runner.cfg.to_dict()
    how = {
        "config": {name: whole[name] for name in NEEDED if name in whole},
        "ids": list(runner.forget_ids),
        "ignored": list(ignored_labels(runner.cfg, runner.test_dataloader.dataset)),
    }
    try:
        json.dumps(how)
    except TypeError:  # a config with objects in it cannot be written down
        return None
    return how


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | None]:
    """``forget_iou`` and ``others_drop`` on the test images of the record.

    Args:
        paths: 'erased', and 'original' where it still is.
        how: ``RecordParts.measurement``.
    """
    cfg = Config(dict(how["config"]))
    init_default_scope(cfg.get("default_scope", "mmseg"))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = list(dataset.metainfo["classes"])
    rows = {}
    for name, path in paths.items():
        model = build_segmentor(cfg, path)
        metric = ForgetIoUMetric(len(names), how["ids"], how.get("ignored", 255))
        for index in track(range(len(dataset)), len(dataset), f"{name}, test"):
            with torch.no_grad():
                said = model.test_step(pseudo_collate([dataset[index]]))
            metric.process(None, [sample.to_dict() for sample in said])
        metric.compute_metrics(metric.results)
        rows[name] = figures(metric.confusion, names, how["ids"])
    out: dict[str, float | None] = {"forget_iou": rows["erased"]["forget_iou"]}
    if "original" in rows:
        out["others_drop"] = drop(rows["original"]["others_miou"], rows["erased"]["others_miou"])
    return out
