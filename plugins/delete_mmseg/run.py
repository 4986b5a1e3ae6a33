"""The segmentation command's work: unlearn, evaluate before and after, write the erased model, figures and picture."""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank
from rich.console import Console
from rich.table import Table

from delete_tasks.checkpoint import load_file, load_state, save_json, state_dict_of
from delete_tasks.errors import RequestError
from delete_tasks.recipe import apply_recipe
from delete_tasks.record import write_record
from delete_tasks.runner import UnlearnRunner

from .evaluate import became, figures
from .picture import choose_images, draw


def make_config(
    config: str, checkpoint: str, classes: Sequence[str], work_dir: str, options: Mapping[str, Any]
) -> Config:
    """An MMSegmentation config, with or without ``unlearn`` in it, for the run that the command line describes.

    Args:
        config: Path of the config.
        checkpoint: The original model.
        classes: Names of the classes to forget; empty takes those of the config's ``unlearn``.
        work_dir: Where everything is written.
        options: ``steps, lr, batch_size, seed, resume, launcher, cfg_options``; None leaves the config's value.
    """
    cfg = Config.fromfile(config)
    if options.get("cfg_options"):
        cfg.merge_from_dict(dict(options["cfg_options"]))
    unlearn = dict(cfg.get("unlearn") or {"type": "DELETE"})
    if classes:
        unlearn["classes"] = [int(name) if name.isdigit() else name for name in classes]
    if options.get("lr") is not None:
        unlearn["optimizer"] = {**unlearn.get("optimizer", {"type": "AdamW"}), "lr": options["lr"]}
    for name in ("steps", "batch_size"):
        if options.get(name) is not None:
            unlearn[name] = options[name]
    cfg.unlearn = unlearn
    cfg.runner_type = "UnlearnRunner"
    cfg.load_from = checkpoint
    cfg.work_dir = work_dir
    cfg.resume = bool(options.get("resume"))
    cfg.launcher = options.get("launcher") or "none"
    if options.get("seed") is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": options["seed"]}
    return cfg


def dry_run(cfg: Config, console: Console) -> None:
    """Check everything and say what a run would do; nothing is trained, nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = copy.deepcopy(cfg)
        cfg.work_dir = folder
        runner = UnlearnRunner.from_cfg(cfg)
        runner.build_train_loop(runner._train_loop)
        load_state(runner.unwrapped_model, state_dict_of(load_file(cfg.load_from)), f"'{cfg.load_from}'")
        info, recipe = runner.forget_info, runner.recipe
        console.print(f"Would forget: {', '.join(runner.class_names[i] for i in runner.forget_ids)}")
        console.print(f"Forget set: {info['read']} of {info['available']} images ({runner.method.request.select})")
        console.print(f"Loss swapped in: {', '.join(p.name for p in runner.task.loss_points(runner.unwrapped_model))}")
        batch = recipe.batch_size or runner._train_dataloader.get("batch_size")
        console.print(f"Recipe: {recipe.steps} steps, batch {batch} a process, {dict(recipe.optimizer)}")


def run(cfg: Config, console: Console) -> dict[str, Any]:
    """Unlearn and evaluate; writes erased.pth, results.json and before_after.png into the config's work dir.

    Returns:
        What results.json holds.
    """
    if not cfg.get("test_dataloader"):
        raise RequestError("the config has no test_dataloader, on which before and after are measured")
    runner = UnlearnRunner.from_cfg(cfg)
    begin = time.monotonic()
    runner.train()
    seconds = time.monotonic() - begin
    classes = len(runner.class_names)
    runner._test_loop = {"type": "TestLoop"}
    runner._test_evaluator = [{"type": "ForgetIoUMetric", "classes": classes, "forget_ids": runner.forget_ids}]
    if isinstance(runner._test_dataloader, dict):
        runner._test_dataloader["batch_size"] = 1

    model = runner.unwrapped_model
    device = next(model.parameters()).device
    erased = {name: value.clone() for name, value in model.state_dict().items()}
    original = {k: v.to(device) for k, v in state_dict_of(load_file(runner.teacher_path)).items()}
    head = runner.task.classifier(model)[0]
    with_head = {name: original[name] if name.startswith(f"{head}.") else value for name, value in erased.items()}

    names, ids = runner.class_names, runner.forget_ids
    rows: dict[str, Any] = {}
    chosen: list[int] = []
    seen: dict[str, list[Any]] = {}
    went: dict[str, float] = {}
    for row, state in (("original", original), ("erased", erased), ("erased_with_original_head", with_head)):
        load_state(model, state, row)
        runner.test()
        metric = runner.test_loop.evaluator.metrics[0]
        rows[row] = figures(metric.confusion, names, ids, metric.images)
        if row == "original":
            rows["logit_cut"] = figures(metric.cut_confusion, names, ids, metric.images)
            chosen = choose_images(runner.test_dataloader.dataset, ids)
        if row == "erased":
            went = became(metric.confusion, names, ids)
        if row != "erased_with_original_head" and get_rank() == 0:
            seen[row] = [_predict(model, runner.test_dataloader.dataset, index) for index in chosen]
    load_state(model, erased, "erased")

    results = {
        "task": "segmentation",
        "classes": [names[i] for i in ids],
        "rows": {name: rows[name] for name in ("original", "logit_cut", "erased", "erased_with_original_head")},
        "forgotten_pixels_became": went,
        "forget_set": runner.forget_info,
        "seconds": round(seconds, 1),
        "steps": runner.iter // runner.accumulation,
        "peak_memory_mb": round(_peak_memory_mb()),
    }
    if get_rank() == 0:
        folder = Path(runner.work_dir)
        save_json(results, folder / "results.json")
        pairs = zip(seen["original"], seen["erased"], strict=True)
        palette = runner.test_dataloader.dataset.metainfo["palette"]
        draw(folder / "before_after.png", [(a[0], a[1], b[1]) for a, b in pairs], names, palette, ids)
        show(results, console)
        console.print(f"Written: {folder / 'erased.pth'}, {folder / 'results.json'}, {folder / 'before_after.png'}")
    write_record(runner, results)
    return results


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table and where the forgotten pixels went."""
    table = Table(title=f"Forgetting {', '.join(results['classes'])} (test split, percent)")
    table.add_column("model")
    columns = {"forget_iou": "forgotten IoU", "others_miou": "others mIoU", "miou": "mIoU (all pixels)"}
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, row in results["rows"].items():
        table.add_row(name, *("not measured" if row[c] is None else f"{row[c]:.2f}" for c in columns))
    console.print(table)
    went = ", ".join(f"{name} {share:.1f}%" for name, share in list(results["forgotten_pixels_became"].items())[:5])
    console.print(f"Forgotten pixels became: {went}")
    read = results["forget_set"]
    console.print(
        f"Read {read['read']} of {read['available']} training images, {results['steps']} steps, {results['seconds']:.0f} s"
    )


def _predict(model: Any, dataset: Any, index: int) -> tuple[Any, Any]:
    """RGB image and prediction (uint8 ids) of one test sample."""
    import mmcv

    data = pseudo_collate([dataset[index]])
    with torch.no_grad():
        sample = model.test_step(data)[0]
    prediction = sample.pred_sem_seg.data.squeeze().cpu().numpy().astype(np.uint8)
    image = mmcv.imread(sample.metainfo["img_path"], channel_order="rgb")
    return image, prediction


def _peak_memory_mb() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


__all__ = ["apply_recipe", "dry_run", "make_config", "run", "show"]
