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

from delete_tasks.evaluation import Evaluation
from delete_tasks.record import AttentionRequest, RecordParts
from delete_tasks.terminal import track

from .attention_samples import build_segmentor
from .evaluate import METRICS, ForgetIoUMetric
from .files import ignored_labels
from .recorded_config import check_config, portable_config


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``segmentation``; where ``results`` says why it was ``not_measured``, of what was done alone."""
    reason: str | None = results["not_measured"].get("rows")
    how: Mapping[str, Any] | str = reason or {
        "config": portable_config(runner.cfg.to_dict()),
        "ids": list(runner.forget_ids),
        "expected": [runner.class_names.index(name) for name in results["expected"]],
        "ignored": list(ignored_labels(runner.cfg, runner.test_dataloader.dataset)),
    }
    caption = "Test images, and what the original and the erased model predict for each pixel."
    return RecordParts(
        pictures=[(str(Path(runner.work_dir) / "before_after.png"), caption)],
        measurement=how,
        measured_on=None if reason else results["data"]["test"],
        attention=AttentionRequest(["test"], runner.forget_ids[0], {"config": runner.cfg}),
        limits=(
            "A linear classifier on labelled pixels reads part of a forgotten class from the features; "
            "tools/probe_segmentation.py measures how much.",
        ),
    )


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> Evaluation:
    """Every metric on the test images of the record, see :meth:`delete_tasks.task.Task.measure_again`.

    Raises:
        RequestError: The config names what a record may not, see :func:`delete_mmseg.recorded_config.check_config`.
    """
    init_default_scope("mmseg")
    check_config(how["config"])
    cfg = Config(dict(how["config"]))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = list(dataset.metainfo["classes"])
    evaluation = Evaluation(METRICS, how["ids"], names, expected=how.get("expected", ()))
    for name in ("original", "erased"):
        if name not in paths:
            continue
        model = build_segmentor(cfg, paths[name])
        metric = ForgetIoUMetric(len(evaluation.names), how["ids"], ignore_index=how["ignored"])
        for index in track(range(len(dataset)), len(dataset), f"{name}, test"):
            with torch.no_grad():
                predicted = model.test_step(pseudo_collate([dataset[index]]))
            metric.process(None, [sample.to_dict() for sample in predicted])
        evaluation.add(name, {"test": metric.state.compute()[0]})
    return evaluation
