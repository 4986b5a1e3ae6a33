"""Command ``images train``: ordinary training of originals, and of references without a class."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS
from rich.console import Console
from rich.text import Text

from delete_tasks.display.table import Table
from delete_tasks.evaluation.functional import accuracy, per_class_accuracy
from delete_tasks.evaluation.reader import try_out
from delete_tasks.fileio.checkpoint import refuse_non_finite, tensors_sha256
from delete_tasks.fileio.compute import flush_subnormals
from delete_tasks.fileio.seeds import STEP_STREAM, seed_all
from delete_tasks.request.classes import NameIndex
from delete_tasks.request.config import amp_wrapper
from delete_tasks.request.config_checks import build_dataset
from delete_tasks.runner.forget_set import ForgetSet, digest_of
from delete_tasks.runner.resume import describe
from delete_tasks.runner.states import RunStates

from . import register  # noqa: F401
from .data.opening import open_data
from .data.strings import parse_spec
from .metrics import calibration_of
from .models.model_file import ModelSpec, load_model, save_model, spec_to_json
from .opened import opened_model, predict_images

MINUTES = 10  # at most, between two saved states


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Hook that seeds each step, for dropout and the like, by the run's seed, the step and the process."""

    def before_train_iter(self, runner: "TrainRunner", batch_idx: int, data_batch: Any = None) -> None:
        seed_all(runner.seed, STEP_STREAM, batch_idx, get_rank())


@RUNNERS.register_module()
class TrainRunner(RunStates):
    """Runner that trains a classifier on a dataset, read as a stream, by the ``recipe`` of its config, seed and processes."""

    kind = "training"
    start: dict[str, Any] | None = None  # initial weights; None for random ones
    data_digest: str

    @cached_property
    def description(self) -> dict[str, Any]:
        return describe(
            {
                **self.cfg.recipe,
                "model": self.cfg.model.spec,
                "first weights": None if self.start is None else tensors_sha256(self.start),
                "data": self.data_digest,
                "seed": self.seed,
                "processes": self.world_size,
            }
        )

    def begin(self) -> None:
        if self.start is not None:
            self.unwrapped_model.load_state_dict(self.start)

    def build_train_loop(self, loop: Any) -> Any:
        dataset = build_dataset(self._train_dataloader["dataset"])
        self.data_digest = digest_of(dataset.fingerprint("labels"))
        stream = {"dataset": ForgetSet(dataset, range(len(dataset)), self.seed), "sampler": {"type": "StreamSampler"}}
        self._train_dataloader = {**self._train_dataloader, **stream}
        return super().build_train_loop(loop)


def make_config(spec: ModelSpec, data: str, work_dir: str, options: dict[str, Any]) -> Config:
    """Make a training config: SGD with momentum 0.9, warm-up and cosine, cross entropy, mixed precision on a GPU. ``options``:
    ``epochs, lr, batch_size, weight_decay, seed, workers, launcher, resume, allow_import``; ``amp``, mixed precision on a CPU."""
    per_epoch = math.ceil(len(open_data(data, "train", spec.classes)) / options["batch_size"])
    iterations = options["epochs"] * per_epoch
    warm_up = iterations // 20
    rates = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
    wrapper = {"optimizer": {"type": "SGD", "momentum": 0.9, "nesterov": True, **rates}}
    gpu, states = torch.cuda.is_available(), {"type": "StateHook", "interval": per_epoch, "minutes": MINUTES}
    recipe = {name: options[name] for name in ("epochs", "lr", "batch_size", "weight_decay")}
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
                # Strong views are for distillation; labels do not fit them.
                "dataset": {"type": "ImageDataset", "data": data, "spec": spec_to_json(spec), "augment": "plain"},
            },
            "optim_wrapper": amp_wrapper(wrapper) if gpu or options["amp"] else wrapper,
            "param_scheduler": [
                *([{"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": warm_up}] if warm_up else []),
                {"type": "CosineAnnealingLR", "by_epoch": False, "begin": warm_up, "end": iterations, "eta_min": 0.0},
            ],
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": iterations, "val_interval": 10**9},
            "default_hooks": {"checkpoint": states, "logger": {"type": "LoggerHook", "interval": 50}},
            "custom_hooks": [{"type": "StepSeedHook"}],
            "resume": options["resume"],
            "recipe": {**recipe, **({"amp": True} if options["amp"] else {})},
            "log_processor": {"by_epoch": False},
            "randomness": {"seed": options["seed"]},
            "launcher": options["launcher"],
        }
    )


def train(spec: ModelSpec, data: str, test: str | None, without: Sequence[str], work_dir: str, options: Any) -> None:
    """Train a model without the training images of the classes ``without``, and write it to ``work_dir/model``. ``options`` are
    those of :func:`make_config`; ``console``; and ``finetune``, the model folder of the initial weights (None: random)."""
    classes = NameIndex(spec.classes)
    for name in without:
        classes.find(name, "--without")
    flush_subnormals()
    console: Console = options["console"]
    tested = None if test is None else open_data(test, "test", spec.classes)
    start = options["finetune"]
    if start is not None:
        start = load_model(start, options["allow_import"])[0].state_dict()
    runner = TrainRunner.from_cfg(make_config(spec, parse_spec(data).compose({"without": without}), work_dir, options))
    runner.start = start
    network = runner.unwrapped_model.network
    if tested is not None:
        try_out(opened_model(network, spec), tested, "model on --test")  # errors before the first step
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
    predictions = predict_images(network, spec, tested)
    counts = predictions.counts
    total = int(counts.totals.sum())
    fit = calibration_of(predictions.logits, predictions.labels, ids)
    others = [i for i in range(len(spec.classes)) if i not in ids]
    figures: dict[str, Any] = {
        "images": total,
        "accuracy": round(100 * float(counts.hits.sum()) / total, 2) if total else None,
        **({"forget_acc": accuracy(counts, ids)[0], "remain_acc": accuracy(counts, others)[0]} if ids else {}),
        **fit,
        "per_class": dict(zip(spec.classes, per_class_accuracy(counts), strict=True)),
    }
    titles = {"accuracy": "all", "forget_acc": "forgotten classes", "remain_acc": "remaining classes"}
    rows = {title: figures[name] for name, title in titles.items() if name in figures}
    table = Table(["accuracy"], "class", f"Accuracy in percent, {total} images")
    for name, value in (rows | figures["per_class"]).items():
        table.add(name, [None if value is None else f"{value:.2f}"])
    table.show(console)
    if fit["nll"] is not None:
        classes = "the remaining classes" if ids else "all classes"
        text = f"Negative log-likelihood {fit['nll']:.3f}, calibration error {fit['ece']:.2f}%, of {classes}."
        console.print(Text(text))
    return figures
