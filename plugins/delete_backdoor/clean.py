"""The command ``backdoor clean``: take a backdoor out, watch, measure, and write the model only if the watch is content."""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_distributed
from mmengine.registry import DATASETS
from rich.console import Console

from delete_images.data import NO_LABEL
from delete_images.model_file import as_spec
from delete_images.runs import unlearn_options
from delete_tasks.checkpoint import save_json
from delete_tasks.errors import RequestError, require
from delete_tasks.masking import resolve_classes
from delete_tasks.record import exit_status_of, write_record
from delete_tasks.runner import UnlearnRunner
from delete_tasks.workdir import TEMPORARY, process_rank

from . import register  # noqa: F401
from .checks import check_overlap
from .config import check_recipe
from .datasets import load_original
from .evaluation import Rows, open_test
from .measure import DEFINITIONS
from .picture import draw
from .recipes import CLEAN, STRICT
from .report import show
from .watch import BackdoorWatch

ROWS = ("original", "logit_cut", "fine_tune", "erased_strict", "erased_with_clean")


@dataclass(frozen=True)
class Wanted:
    """What is measured beside the watch.

    Attributes:
        test: Data string of clean test images, or None.
        trigger: Trigger string for the triggered test images, or None.
        compare: Make the other rows of the table, too: fine_tune, and erased_strict where there are clean samples.
    """

    test: str | None = None
    trigger: str | None = None
    compare: bool = False


def run(cfg: Config, wanted: Wanted, console: Console) -> dict[str, Any] | None:
    """Clean and measure; writes cleaned/ (if the watch is content), results.json and backdoor.png into the work dir.

    Data, models and every evaluation are tried before the first step. What fails after the last is "not measured", with the
    reason, and costs nothing else.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.

    Raises:
        RequestError: A trigger without test images, test images among those used to clean, see
            :mod:`delete_backdoor.checks` and :mod:`delete_backdoor.evaluation`; nothing is written then.
    """
    torch.set_flush_denormal(True)
    require("matplotlib", "backdoor")
    options = cfg.train_dataloader.dataset
    spec = as_spec(options.spec)
    (target,) = resolve_classes([options.target], spec.classes)
    check_recipe(cfg)
    test = open_test(wanted.test, wanted.trigger, spec, target)
    dataset: Any = DATASETS.build(options)
    check_overlap(test.parts(), dataset.user_samples())
    _check_compare(wanted, dataset)
    rows = Rows(spec, target, test)
    teacher = cfg.unlearn.get("teacher") or cfg.load_from
    original = load_original(cfg.model.spec, teacher, cfg.model.get("allow_import", False))
    if process_rank() == 0:
        rows.add_original(original, options.get("force", False))
    base = copy.deepcopy(cfg)
    runner, seconds = _train(cfg, dataset)
    if is_distributed():
        barrier()
        rank = get_rank()
        torch.distributed.destroy_process_group()  # the rest is the first process's work alone
        if rank:
            return None
    watch, cleaned = watch_of(runner), cast(Any, runner.unwrapped_model).network
    rows.add("erased_strict" if dataset.strict else "erased_with_clean", cleaned, _of_run(runner, seconds))
    for name, changed in _others(base) if wanted.compare else ():
        rows.attempt(name, partial(_add_other, rows, name, changed))
    results = {
        "task": "backdoor",
        "verdict": watch.verdict,
        "reason": watch.reason,
        "written": runner.published is not None,
        "target": spec.classes[target],
        "rows": {row: rows.rows.get(row) for row in ROWS},
        "not_measured": rows.not_measured,
        "definitions": DEFINITIONS,
        "watch": watch.summary(),
        "samples": dataset.counts(),
        "test": {"data": wanted.test, "trigger": wanted.trigger},
        "dataset": _plain(options),
        "unlearn": {**cfg.unlearn.to_dict(), "seed": runner.seed},
        "seconds": seconds,
        "steps": runner.iter // runner.accumulation,
        "forget_check": runner.forget_check,
        "withheld": runner.withheld,
    }
    out = Path(runner.work_dir)
    written = [*([runner.published] if runner.published else []), out / "results.json"]
    save_json(results, out / "results.json")
    picture = out / "backdoor.png"
    rows.attempt(picture.name, partial(draw, picture, dataset, original, cleaned, results))
    if picture.name in rows.not_measured:
        save_json(results, out / "results.json")
    else:
        written.append(picture)
    show(results, console)
    console.print(f"Written: {', '.join(map(str, written))}")
    return results | {"exit_status": exit_status_of(write_record(runner, results))}


def _check_compare(wanted: Wanted, dataset: Any) -> None:
    """Refuse a comparison that would make no row."""
    if wanted.compare and dataset.strict:
        raise RequestError(
            "--compare makes rows that need clean samples, or are the run itself without; give --retain, too"
        )
    if wanted.compare and (dataset.clean.labels == NO_LABEL).all():
        raise RequestError("--compare fine-tunes on the labels of clean samples, and these have none; give labels")


def _add_other(rows: Rows, name: str, changed: Config) -> None:
    # In the work dir, so that what a killed run leaves of it is swept when the next begins.
    with tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=changed.work_dir) as folder:
        changed.work_dir, changed.resume, changed.log_level = folder, False, "ERROR"
        changed.experiment_name = name  # runs that begin in the same second would share mmengine's visualizer
        runner, seconds = _train(changed, DATASETS.build(changed.train_dataloader.dataset))
        rows.add(name, cast(Any, runner.unwrapped_model).network, _of_run(runner, seconds))


def _of_run(runner: UnlearnRunner, seconds: float) -> dict[str, Any]:
    """What a row says of the run that made its network."""
    watch = watch_of(runner)
    steps = runner.iter // runner.accumulation
    extra = {"verdict": watch.verdict, "reason": watch.reason, "seconds": seconds, "steps": steps}
    return {**extra, "watch": watch.summary()["readings"]}


def _train(cfg: Config, dataset: Any) -> tuple[UnlearnRunner, float]:
    """A run on a dataset that was built, and so checked, before the work dir existed."""
    runner = UnlearnRunner.from_cfg(cfg)
    runner.data_config = copy.deepcopy(runner._train_dataloader["dataset"])
    runner._train_dataloader["dataset"] = dataset
    begin = time.monotonic()
    runner.train()
    return runner, round(time.monotonic() - begin, 1)


def watch_of(runner: UnlearnRunner) -> BackdoorWatch:
    """The watch of a run."""
    return next(hook for hook in runner.hooks if isinstance(hook, BackdoorWatch))


def _others(base: Config) -> list[tuple[str, Config]]:
    """Configs of the rows made for comparison, of a run with clean samples."""
    tuned, alone = copy.deepcopy(base), copy.deepcopy(base)
    options = {"optimizer", "steps", "batch_size", "norm_eval", "classes", "schedule"}
    tuned.unlearn = {"type": "FineTune", **{k: v for k, v in tuned.unlearn.items() if k in options}}
    tuned.train_dataloader.dataset.update(mix=0.0, carriers=0.0)  # neither has a label
    data = alone.train_dataloader.dataset
    data.pop("clean")
    data.update(STRICT["dataset"], carriers=0.0)
    steps = min(base.unlearn.steps, STRICT["unlearn"]["steps"])
    alone.unlearn = unlearn_options([data.target], "DELETE", {**STRICT["unlearn"], "steps": steps})
    own = {hook["type"] for recipe in (CLEAN, STRICT) for hook in recipe["hooks"]}
    alone.custom_hooks = [hook for hook in alone.custom_hooks if hook.get("type") not in own] + copy.deepcopy(
        STRICT["hooks"]
    )
    return [("fine_tune", tuned), ("erased_strict", alone)]


def _plain(data: Any) -> dict[str, Any]:
    """The dataset's options for results.json, its model's description left out."""
    return {name: value for name, value in data.to_dict().items() if name != "spec"}
