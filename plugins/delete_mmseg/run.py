"""The segmentation command's work: unlearn, evaluate before and after, write the erased model, figures and picture."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from rich.console import Console
from rich.table import Table
from rich.text import Text

from delete_tasks.checkpoint import load_file, load_state, save_json, state_dict_of
from delete_tasks.config_file import load_config
from delete_tasks.errors import RequestError
from delete_tasks.forgotten import in_words
from delete_tasks.record import exit_status_of, write_record
from delete_tasks.runner import UnlearnRunner
from delete_tasks.task import task_for

from .checks import check_data, check_request, predict, shown_by
from .evaluate import became, figures
from .picture import choose_images, draw

ROWS = ("original", "logit_cut", "erased", "erased_with_original_head")


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
    cfg = load_config(config, options.get("cfg_options"))
    unlearn = dict(cfg.get("unlearn") or {"type": "DELETE"})
    if classes:
        unlearn["classes"] = list(classes)
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
    """Check everything and say what a run would do; nothing is trained, nothing is written."""
    checked = check_request(cfg)
    notes = check_data(checked)
    method, recipe = checked.method, checked.recipe
    teacher = checked.model if method.request.select == "teacher" else None
    task = task_for(checked.model)
    found = task.find_forget_set(checked.train, checked.ids, teacher, checked.cfg)
    if not found:
        raise RequestError(
            f"the forget set is empty: none of {len(checked.train)} training images shows a class that is to be forgotten"
        )
    batch = recipe.batch_size or checked.cfg.train_dataloader.get("batch_size")
    for line in (
        f"Would forget: {', '.join(checked.names[i] for i in checked.ids)}",
        f"Forget set: {len(found)} of {len(checked.train)} images ({method.request.select})",
        f"Loss swapped in: {', '.join(point.name for point in task.loss_points(checked.model))}",
        f"Recipe: {recipe.steps} steps, batch {batch} a process, {dict(recipe.optimizer)}",
        *notes,
    ):
        console.print(line, markup=False)


def run(cfg: Config, console: Console) -> dict[str, Any]:
    """Unlearn and evaluate; writes erased.pth, results.json and before_after.png into the config's work dir.

    Everything that can be refused is refused, and every evaluation tried on one image, before anything is written.

    Returns:
        What results.json holds, and the command's ``exit_status``.
    """
    checked = check_request(cfg)
    for note in check_data(checked):
        console.print(note, markup=False)
    cfg, names, ids = checked.cfg, checked.names, checked.ids
    del checked  # the run makes its own model
    runner = UnlearnRunner.from_cfg(cfg)
    begin = time.monotonic()
    runner.train()
    results: dict[str, Any] = {
        "task": "segmentation",
        "classes": [names[i] for i in ids],
        "rows": dict.fromkeys(ROWS),
        "forgotten_pixels_became": None,
        "test_set": None,
        "forget_set": runner.forget_info,
        "forget_check": runner.forget_check,
        "withheld": runner.withheld,
        "seconds": round(time.monotonic() - begin, 1),
        "steps": runner.iter // runner.accumulation,
    }
    folder = Path(runner.work_dir)
    try:
        found = _measure(runner)
    except Exception as error:
        # The run is over and its model is there: what was done is told, with the reason why it was not measured.
        results["rows"] = {name: figures(np.zeros((len(names),) * 2, np.int64), names, ids) for name in ROWS}
        results["not_measured"] = reason = str(error) or type(error).__name__
        if get_rank() == 0:
            save_json(results, folder / "results.json")
        write_record(runner, results)
        raise RequestError(f"the run is over ({runner.published}), but it could not be measured: {reason}") from error
    results |= found | {"peak_memory_mb": round(_peak_memory_mb())}
    if get_rank() == 0:
        save_json(results, folder / "results.json")
        show(results, console)
        written = [runner.published, folder / "results.json", folder / "before_after.png"]
        console.print(f"Written: {', '.join(str(path) for path in written if path)}", markup=False)
    return results | {"exit_status": exit_status_of(write_record(runner, results))}


def _measure(runner: UnlearnRunner) -> dict[str, Any]:
    """The rows of the table, and the picture."""
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
            seen[row] = [shown_by(predict(model, runner.test_dataloader.dataset, index)) for index in chosen]
    load_state(model, erased, "erased")
    if get_rank() == 0:
        pairs = zip(seen["original"], seen["erased"], strict=True)
        palette = runner.test_dataloader.dataset.metainfo["palette"]
        draw(Path(runner.work_dir) / "before_after.png", [(*a, b[1]) for a, b in pairs], names, palette, ids)
    return {
        "rows": {name: rows[name] for name in ROWS},
        "forgotten_pixels_became": went,
        "test_set": rows["original"]["counts"],
    }


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table, 80 columns wide at most, and where the forgotten pixels went."""
    test = results["test_set"]
    who = ", ".join(results["classes"])
    title = (
        f"Forgetting {who}: percent, {test['images']} test images, {test['images_with_forgotten']} of them with {who}"
    )
    table = Table(title=Text(title))
    table.add_column("model")
    columns = {"forget_iou": "forgotten IoU", "others_miou": "others mIoU", "miou": "mIoU, all"}
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for name, row in results["rows"].items():
        table.add_row(name, *("not measured" if row[c] is None else f"{row[c]:.2f}" for c in columns))
    console.print(table)
    went = list(results["forgotten_pixels_became"].items())[:5]
    read = results["forget_set"]
    for line in (
        f"Forgotten pixels ({test['forgotten_pixels']:,} in all) became: "
        + (", ".join(f"{name} {share:.1f}%" for name, share in went) or "none were there"),
        in_words(results["forget_check"]),
        f"Read {read['read']} of {read['available']} training images, {results['steps']} steps, {results['seconds']:.0f} s",
    ):
        console.print(line, markup=False)


def _peak_memory_mb() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
