"""The command ``images forget``: unlearn, measure before and after, write the erased model, figures and picture."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_distributed
from rich.console import Console
from rich.text import Text

from delete_tasks.checkpoint import save_json
from delete_tasks.config_file import change_config, check_sections, load_config
from delete_tasks.errors import RequestError
from delete_tasks.masking import resolve_classes
from delete_tasks.record import exit_status_of, write_record
from delete_tasks.runner import UnlearnRunner

from . import register  # noqa: F401
from .data import NO_LABEL, open_data
from .evaluate import became
from .model_file import WEIGHTS_NAME, ModelSpec, as_spec
from .picture import draw_confusions
from .report import show
from .rows import ROWS, Evaluation, Wanted, measure, nothing_measured, open_evaluation
from .runs import (
    check_retain,
    default_recipe,
    default_views,
    method_class,
    parameters_in,
    unlearn_options,
)

__all__ = ["ROWS", "Wanted", "make_config", "run", "show"]


def make_config(config: str | None, options: Mapping[str, Any]) -> Config:
    """The config of the run that a command line describes: a file's, or one made from a model folder, and its changes.

    Args:
        config: Path of a config such as configs/images/resnet18_cifar10_forget-deer.py, or None.
        options: Of the command line; None leaves the config's value, or the default.

    Raises:
        RequestError: Neither a config nor a model, data and classes.
    """
    classes = list(options["classes"] or ())
    if config is not None:
        cfg = load_config(config)
    else:
        missing = [f"--{name}" for name in ("model", "forget", "classes") if not options[name]]
        if missing:
            raise RequestError(f"{', '.join(missing)} missing: give --model, --forget and --classes, or --config")
        cfg = Config(_loaders())
    change_config(cfg, options.get("cfg_options"))
    check_sections(cfg, f"the config '{config}'", ["train_dataloader.dataset"])
    if options["model"]:
        cfg.model = {"type": "ImageClassifier", "spec": options["model"], "allow_import": options["allow_import"]}
        cfg.load_from = str(Path(options["model"]) / WEIGHTS_NAME)
        cfg.train_dataloader.dataset.spec = options["model"]
    data = cfg.train_dataloader.dataset
    for key, given in (("data", options["forget"]), ("retain", options["retain"])):
        if given is not None:
            data[key] = given
    if options["workers"] is not None:
        cfg.train_dataloader.num_workers = options["workers"]

    old = dict(cfg.get("unlearn") or {})
    named = (
        "steps",
        "lr",
        "batch_size",
        "schedule",
        "sharpen",
        "temperature",
        "masking",
        "stop",
        "norm_eval",
        "keep_row",
    )
    given = {**old, **{name: options[name] for name in named if options[name] is not None}}
    method = options["method"] or given.pop("type", "DELETE")
    given.pop("type", None)
    if options["method"] and options["method"] != old.get("type", "DELETE"):
        given.pop("optimizer", None)  # another method's rate
    if options["augment"] is not None:
        data.augment = options["augment"]
    data.setdefault("augment", default_views(method))
    given = {**default_recipe(method, data.augment, parameters_in(cfg.load_from)), **given}
    if "lr" in given.get("optimizer", {}) and options["lr"] is None:
        given.pop("lr")
    cfg.unlearn = unlearn_options(classes or given.pop("classes", None) or (), method, {**given, "classes": None})
    check_retain(method, data.get("retain"))
    cfg.runner_type = "UnlearnRunner"
    cfg.work_dir = options["work_dir"]
    cfg.resume = options["resume"]
    cfg.launcher = options["launcher"]
    if options["seed"] is not None:
        cfg.randomness = {"seed": options["seed"]}
    return cfg


def _loaders() -> dict[str, Any]:
    return {
        "default_scope": "mmengine",
        "train_dataloader": {
            "num_workers": 4 if torch.cuda.is_available() else 0,
            "sampler": {"type": "InfiniteSampler"},
            "collate_fn": {"type": "collate_images"},
            "dataset": {"type": "ImageDataset"},
        },
    }


def run(cfg: Config, wanted: Wanted, console: Console, wide: bool = False) -> dict[str, Any] | None:
    """Unlearn and measure; writes erased/, results.json and confusion_before_after.png into the config's work dir.

    What can be refused is refused before the first step. What fails while measuring leaves the model, and results.json says why.

    Args:
        cfg: See :func:`make_config`.
        wanted: What is measured.
        console: For the table.
        wide: Print every column of it.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.
    """
    spec = as_spec(cfg.model.spec)
    evaluation = check(cfg, spec, wanted)
    runner = UnlearnRunner.from_cfg(cfg)
    seconds = train(runner)
    if seconds is None:
        return None
    results, pictures = figures(runner, cfg, spec, evaluation, wanted, seconds)
    written = write(runner, spec, evaluation, results, pictures)
    show(results, console, wide)
    if runner.withheld is not None:
        console.print(Text(f"The model is not written: {runner.withheld}"))
    console.print(Text(f"Written: {', '.join(map(str, written))}"))
    return results | {"exit_status": exit_status_of(write_record(runner, results))}


def check(cfg: Config, spec: ModelSpec, wanted: Wanted) -> Evaluation:
    """Refuse what can be refused, before anything is written.

    Raises:
        RequestError: Unknown classes; data or models that cannot be read, or that cannot be measured on; unlabelled images where
            the method reads labels.
    """
    ids = resolve_classes(cfg.unlearn.classes, spec.classes)
    dataset = cfg.train_dataloader.dataset
    labels = open_data(dataset.data, dataset.get("split", "train"), spec.classes).labels
    unlabelled = int((labels == NO_LABEL).sum())
    if unlabelled and method_class(cfg.unlearn.type).needs_labels:
        raise RequestError(
            f"{cfg.unlearn.type} reads labels, and {unlabelled} of {len(labels)} images in '{dataset.data}' have none; say what "
            "they are with ?label=NAME, or use --method DELETE"
        )
    return open_evaluation(cfg, spec, ids, wanted)


def train(runner: UnlearnRunner) -> float | None:
    """The run; seconds it took, or None on all processes but the first, which ends with it."""
    begin = time.monotonic()
    runner.train()
    seconds = time.monotonic() - begin
    if is_distributed():
        barrier()
        rank = get_rank()
        torch.distributed.destroy_process_group()  # the rest is the first process's work alone
        if rank:
            return None
    return seconds


def figures(
    runner: UnlearnRunner, cfg: Config, spec: ModelSpec, evaluation: Evaluation, wanted: Wanted, seconds: float
) -> tuple[dict[str, Any], tuple[Any, Any] | None]:
    """What results.json holds, and the confusion matrices before and after."""
    ids, names = runner.forget_ids, spec.classes
    measured = evaluation.attempt("rows", lambda: measure(runner, cfg, spec, evaluation))
    rows, probe, pictures = measured or (nothing_measured(names, ids), {}, None)
    return {
        "task": "images",
        "classes": [names[i] for i in ids],
        "rows": rows,
        "probe": probe,
        "not_measured": evaluation.not_measured,
        "forgotten_became": None if pictures is None else became(pictures[1], names),
        "forget_check": runner.forget_check,
        "finished": runner.finished,
        "withheld": runner.withheld,
        "forget_set": runner.forget_info,
        "retain": cfg.train_dataloader.dataset.get("retain"),
        "data": {"forget": cfg.train_dataloader.dataset.data, "test": wanted.test, "train": wanted.train},
        "unlearn": {**cfg.unlearn.to_dict(), "sharpen": getattr(runner.method, "sharpen", None), "seed": runner.seed},
        "seconds": round(seconds, 1),
        "steps": runner.iter // runner.accumulation,
        "peak_memory_mb": round(_peak_memory_mb()),
    }, pictures


def write(
    runner: UnlearnRunner, spec: ModelSpec, evaluation: Evaluation, results: Mapping[str, Any], pictures: Any
) -> list[Any]:
    """Write results.json and the picture; paths of all that was written."""
    path = Path(runner.work_dir) / "confusion_before_after.png"
    written = [] if runner.published is None else [runner.published]
    if pictures is not None:
        draw = partial(draw_confusions, path, pictures[0], pictures[1], spec.classes, runner.forget_ids)
        evaluation.attempt("picture", draw)
    save_json(results, Path(runner.work_dir) / "results.json")
    drawn = pictures is not None and "picture" not in evaluation.not_measured
    return [*written, Path(runner.work_dir) / "results.json", *([path] if drawn else [])]


def _peak_memory_mb() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
