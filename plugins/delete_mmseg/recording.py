"""What the erasure record tells of a segmentation run, and how its figures are measured again."""

from __future__ import annotations

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
from .recorded_config import check_config, portable_config

FIGURES: tuple[Figure, ...] = (
    Figure("forget_iou", "forgotten classes' IoU", "percent", 5.0, "test images that show them"),
    Figure(
        "others_drop",
        "loss of the other classes' mean IoU over pixels that are not of a forgotten class",
        "points",
        2.0,
        "test images",
    ),
)


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``segmentation``; where ``results`` says why it was ``not_measured``, of what was done alone."""
    reason = results.get("not_measured")
    where = None
    if reason is None:
        dataset = runner.test_dataloader.dataset
        where = f"{len(dataset)} images of the config's test split ({type(dataset).__name__})"
    return RecordParts(
        fill(results),
        pictures=[
            (
                str(Path(runner.work_dir) / "before_after.png"),
                "Test images, and what the original and the erased model predict for each pixel.",
            )
        ],
        measurement=_measurement(runner) if reason is None else reason,
        measured_on=where,
        look=Look(["test"], runner.forget_ids[0], {"config": runner.cfg}),
        limits=(
            "A linear classifier on labelled pixels reads part of a forgotten class from the features; "
            "tools/probe_segmentation.py measures how much.",
        ),
    )


def fill(results: Mapping[str, Any]) -> list[Figure]:
    """The figures with what the table says."""
    before, after = (results["rows"][name] for name in ("original", "erased"))
    counts = after["counts"]
    forget_iou, others_drop = FIGURES
    note = "{:,} pixels; those of one image depend on each other"
    lost = drop(before["others_miou"], after["others_miou"])
    found = [
        forget_iou.measured(
            after["forget_iou"],
            before["forget_iou"],
            count=counts["images_with_forgotten"],
            note=note.format(counts["forgotten_pixels"]),
        ),
        others_drop.measured(lost, count=counts["images"], note=note.format(counts["other_pixels"])),
    ]
    return [figure.or_because(results.get("not_measured") or "no test image shows them") for figure in found]


def drop(before: float | None, after: float | None) -> float | None:
    """Points lost; None where either was not measured."""
    return None if before is None or after is None else round(before - after, 4)


def _measurement(runner: Any) -> Mapping[str, Any] | str:
    return {
        "config": portable_config(runner.cfg.to_dict()),
        "ids": list(runner.forget_ids),
        "ignored": list(ignored_labels(runner.cfg, runner.test_dataloader.dataset)),
    }


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | str | None]:
    """``forget_iou`` and ``others_drop`` on the test images of the record.

    Args:
        paths: 'erased', and 'original' where it still is.
        how: ``RecordParts.measurement``.

    Returns:
        By name: a number, or why there is none.

    Raises:
        RequestError: The config names what a record may not, see :func:`delete_mmseg.recorded_config.check_config`.
    """
    init_default_scope("mmseg")
    check_config(how["config"])
    cfg = Config(dict(how["config"]))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = list(dataset.metainfo["classes"])
    rows = {}
    for name, path in paths.items():
        model = build_segmentor(cfg, path)
        metric = ForgetIoUMetric(len(names), how["ids"], ignore_index=how["ignored"])
        for index in track(range(len(dataset)), len(dataset), f"{name}, test"):
            with torch.no_grad():
                said = model.test_step(pseudo_collate([dataset[index]]))
            metric.process(None, [sample.to_dict() for sample in said])
        metric.compute_metrics(metric.results)
        rows[name] = figures(metric.confusion, names, how["ids"])
    out: dict[str, float | str | None] = {"forget_iou": rows["erased"]["forget_iou"]}
    if "original" in rows:
        out["others_drop"] = drop(rows["original"]["others_miou"], rows["erased"]["others_miou"])
    else:
        out["others_drop"] = "the original is not there any more"
    return out
