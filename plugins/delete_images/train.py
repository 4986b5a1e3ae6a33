"""The command ``images train``: an ordinary training run, for originals and for references that never saw a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from rich.console import Console
from rich.text import Text

from delete_tasks.checkpoint import refuse_non_finite
from delete_tasks.compute import flush_subnormals
from delete_tasks.evaluation.functional import accuracy, per_class_accuracy
from delete_tasks.evaluation.reader import try_out
from delete_tasks.masking import NameIndex
from delete_tasks.mixed_precision import amp_wrapper
from delete_tasks.table import Table

from . import register  # noqa: F401
from .data import open_data
from .kept import calibration
from .model_file import ModelSpec, load_model, save_model
from .opened import opened_model, predict_images
from .selection import parse_spec
from .spec import spec_to_json
from .train_runner import TrainRunner

MINUTES = 10  # at most between two saved states


def make_config(spec: ModelSpec, data: str, work_dir: str, options: dict[str, Any]) -> Config:
    """A training config: SGD with momentum 0.9, warm-up and cosine, cross entropy, mixed precision on a GPU. ``options``:
    ``epochs, lr, batch_size, weight_decay, seed, workers, launcher, resume``, and ``amp``, mixed precision on a CPU, too."""
    images = len(open_data(data, "train", spec.classes))
    each = math.ceil(images / options["batch_size"])
    iterations = options["epochs"] * each
    warm_up = iterations // 20
    rates = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
    wrapper = {"optimizer": {"type": "SGD", "momentum": 0.9, "nesterov": True, **rates}}
    gpu = torch.cuda.is_available()
    return Config(
        {
            "default_scope": "mmengine",
            "model": {"type": "ImageClassifier", "spec": spec_to_json(spec), "allow_import": options["allow_import"]},
            "work_dir": work_dir,
            "train_dataloader": {
                "batch_size": options["batch_size"],
                "num_workers": options["workers"] if options["workers"] is not None else (8 if gpu else 0),
                "sampler": None,
                "collate_fn": {"type": "collate_images"},
                # Strong views are for distillation: no label fits them.
                "dataset": {"type": "ImageDataset", "data": data, "spec": spec_to_json(spec), "augment": "plain"},
            },
            "optim_wrapper": amp_wrapper(wrapper) if gpu or options["amp"] else wrapper,
            "param_scheduler": [
                *([{"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": warm_up}] if warm_up else []),
                {"type": "CosineAnnealingLR", "by_epoch": False, "begin": warm_up, "end": iterations, "eta_min": 0.0},
            ],
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": iterations, "val_interval": 10**9},
            "default_hooks": {
                "checkpoint": {"type": "StateHook", "interval": each, "minutes": MINUTES},
                "logger": {"type": "LoggerHook", "interval": 50},
            },
            "custom_hooks": [{"type": "StepSeedHook"}],
            "resume": options["resume"],
            "recipe": {
                **{name: options[name] for name in ("epochs", "lr", "batch_size", "weight_decay")},
                **({"amp": True} if options["amp"] else {}),
            },
            "log_processor": {"by_epoch": False},
            "randomness": {"seed": options["seed"]},
            "launcher": options["launcher"],
        }
    )


def train(spec: ModelSpec, data: str, test: str | None, without: Sequence[str], work_dir: str, options: Any) -> None:
    """Train a model and write it to ``work_dir/model``. ``options`` are those of :func:`make_config`; ``console``; and
    ``finetune``, the folder of the model whose weights training starts from, or None for random ones. Classes in
    ``without`` are left out of the training images."""
    classes = NameIndex(spec.classes)
    for name in without:
        classes.find(name, "--without")
    flush_subnormals()
    console: Console = options["console"]
    tested = None if test is None else open_data(test, "test", spec.classes)
    runner = TrainRunner.from_cfg(make_config(spec, parse_spec(data).compose({"without": without}), work_dir, options))
    if options["finetune"] is not None:
        runner.start = load_model(options["finetune"], options["allow_import"])[0].state_dict()
    network = runner.unwrapped_model.network
    if tested is not None:
        try_out(opened_model(network, spec), tested, "model on --test")  # what fails fails now
    runner.train()
    if get_rank():
        return
    runner.work.retire()
    refuse_non_finite(network.state_dict(), f"a smaller learning rate than {options['lr']}")
    folder = save_model(f"{work_dir}/model", network, spec)
    if tested is not None:
        show(network, spec, tested, [], console)
    console.print(f"Written: {folder}")


def show(network: Any, spec: ModelSpec, tested: Any, ids: Sequence[int], console: Console) -> dict[str, Any]:
    """Evaluate a model, print its accuracies and return them, in percent."""
    found = predict_images(network, spec, tested)
    counts = found.counts
    total = int(counts.totals.sum())
    fit = calibration(found.logits, found.labels, ids)
    others = [i for i in range(len(spec.classes)) if i not in ids]
    figures: dict[str, Any] = {
        "images": total,
        "accuracy": round(100 * float(counts.hits.sum()) / total, 2) if total else None,
        **({"forget_acc": accuracy(counts, ids)[0], "remain_acc": accuracy(counts, others)[0]} if ids else {}),
        **fit,
        "per_class": dict(zip(spec.classes, per_class_accuracy(counts), strict=True)),
    }
    lines = {"all": figures["accuracy"]}
    if ids:
        lines |= {"forgotten classes": figures["forget_acc"], "remaining classes": figures["remain_acc"]}
    lines |= figures["per_class"]
    table = Table(["accuracy"], "class", f"Accuracy in percent, {total} images")
    for name, value in lines.items():
        table.add(name, [None if value is None else f"{value:.2f}"])
    table.show(console)
    if fit["nll"] is not None:
        of = "the remaining classes" if ids else "all classes"
        console.print(Text(f"Negative log-likelihood {fit['nll']:.3f}, calibration error {fit['ece']:.2f}%, of {of}."))
    return figures
