"""The command ``images forget``: unlearn, measure before and after, write the erased model, figures and picture."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_distributed
from rich.console import Console
from rich.table import Table

from delete_tasks.checkpoint import save_json
from delete_tasks.config_file import load_config
from delete_tasks.errors import RequestError
from delete_tasks.record import exit_status_of, write_record
from delete_tasks.runner import UnlearnRunner

from . import register  # noqa: F401
from .data import NO_LABEL, open_data
from .evaluate import became
from .model_file import WEIGHTS_NAME, ModelSpec, as_spec
from .picture import draw_confusions
from .rows import ROWS, Wanted, measure
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
    if options.get("cfg_options"):
        cfg.merge_from_dict(dict(options["cfg_options"]))
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
    named = ("steps", "lr", "batch_size", "schedule", "sharpen", "temperature", "masking", "stop", "norm_eval")
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


def run(cfg: Config, wanted: Wanted, console: Console) -> dict[str, Any] | None:
    """Unlearn and measure; writes erased/, results.json and confusion_before_after.png into the config's work dir.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.
    """
    spec = as_spec(cfg.model.spec)
    texts = {"test": wanted.test, "train": wanted.train}
    data = {name: None if text is None else open_data(text, name, spec.classes) for name, text in texts.items()}
    _check_labels(cfg, spec)
    runner = UnlearnRunner.from_cfg(cfg)
    begin = time.monotonic()
    runner.train()
    seconds = time.monotonic() - begin
    if is_distributed():
        barrier()
        rank = get_rank()
        torch.distributed.destroy_process_group()  # the rest is the first process's work alone
        if rank:
            return None
    ids, names = runner.forget_ids, spec.classes
    rows, probe, pictures = measure(runner, cfg, spec, data, wanted)
    results = {
        "task": "images",
        "classes": [names[i] for i in ids],
        "rows": rows,
        "probe": probe,
        "forgotten_became": None if pictures is None else became(pictures[1], names),
        "forget_set": runner.forget_info,
        "retain": cfg.train_dataloader.dataset.get("retain"),
        "data": {"forget": cfg.train_dataloader.dataset.data, **texts},
        "unlearn": {**cfg.unlearn.to_dict(), "sharpen": getattr(runner.method, "sharpen", None), "seed": runner.seed},
        "seconds": round(seconds, 1),
        "steps": runner.iter // runner.accumulation,
        "peak_memory_mb": round(_peak_memory_mb()),
    }
    folder = Path(runner.work_dir)
    save_json(results, folder / "results.json")
    written = [runner.published, folder / "results.json"]
    if pictures is not None:
        draw_confusions(folder / "confusion_before_after.png", *pictures, names, ids)
        written.append(folder / "confusion_before_after.png")
    show(results, console)
    console.print(f"Written: {', '.join(map(str, written))}")
    return results | {"exit_status": exit_status_of(write_record(runner, results))}


def _check_labels(cfg: Config, spec: ModelSpec) -> None:
    """Refuse unlabelled images where the method reads labels: they would be left out in silence."""
    dataset = cfg.train_dataloader.dataset
    if not method_class(cfg.unlearn.type).needs_labels:
        return
    labels = open_data(dataset.data, dataset.get("split", "train"), spec.classes).labels
    if (labels == NO_LABEL).any():
        raise RequestError(
            f"{cfg.unlearn.type} reads labels, and {int((labels == NO_LABEL).sum())} of {len(labels)} images in "
            f"'{dataset.data}' have none; say what they are with ?label=NAME, or use --method DELETE"
        )


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Forgetting {', '.join(results['classes'])} (percent; -: not measured)")
    table.add_column("model", no_wrap=True)
    columns = [("forgotten train", "train", "forget_acc"), ("remaining train", "train", "remain_acc")]
    columns += [("forgotten test", "test", "forget_acc"), ("remaining test", "test", "remain_acc")]
    for title in (*(column[0] for column in columns), "H-mean", "worst drop", "linear probe", "5-shot prototype"):
        table.add_column(title, justify="right")
    for name, figures in results["rows"].items():
        worst, probe = figures["worst_drop"], results["probe"].get(name) or {}
        table.add_row(
            name,
            *(_cell(figures[split][key]) for _, split, key in columns),
            _cell(figures["h_mean"]),
            "-" if worst is None else f"{worst['points']:.1f} ({worst['class']})",
            _cell(probe.get("linear")),
            _cell(probe.get("prototype")),
        )
    console.print(table)
    if results["forgotten_became"]:
        went = ", ".join(f"{name} {share:.1f}%" for name, share in list(results["forgotten_became"].items())[:5])
        console.print(f"Forgotten images are taken for: {went}")
    read = results["forget_set"]
    console.print(
        f"Read {read['read']} of {read['available']} images, {results['steps']} steps, {results['seconds']:.0f} s"
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _peak_memory_mb() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
