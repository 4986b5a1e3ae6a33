"""The command ``backdoor clean``: take a backdoor out, watch, measure, and write the model only if the watch is content."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_distributed
from rich.console import Console

from delete_images.data import ImageData, open_data
from delete_images.evaluate import Answers, answers, cut
from delete_images.model_file import WEIGHTS_NAME, ModelSpec, as_spec
from delete_images.runs import parameters_in, rate_for, unlearn_options
from delete_tasks.checkpoint import save_json
from delete_tasks.config_file import load_config
from delete_tasks.errors import RequestError
from delete_tasks.masking import resolve_classes
from delete_tasks.record import write_record
from delete_tasks.runner import UnlearnRunner

from . import register  # noqa: F401
from .checks import check_overlap, guess_target
from .datasets import load_original
from .measure import DEFINITIONS, figures
from .picture import draw
from .poison import triggered
from .recipes import CLEAN, STRICT
from .report import show
from .samples import open_samples
from .triggers import Trigger, parse_trigger
from .watch import BackdoorWatch

ROWS = ("original", "logit_cut", "fine_tune", "erased_strict", "erased_with_clean")
DATASET_OPTIONS = ("clean_each", "mix", "carriers", "held", "views")
UNLEARN_OPTIONS = ("steps", "lr", "batch_size", "sharpen", "temperature", "norm_eval", "forgetting_only", "schedule")


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


def make_config(config: str | None, options: Mapping[str, Any], console: Console) -> Config:
    """The config of the run that a command line describes: a file's, or one made from a model folder, and its changes.

    Args:
        config: Path of a config such as configs/backdoor/vgg_cifar10_ibau-badnets.py, or None.
        options: Of the command line; None leaves the config's value, or the recipe's.
        console: Where a guessed target is said.

    Raises:
        RequestError: Neither a config nor a model and poisoned samples; a target the model lacks.
    """
    if config is not None:
        cfg = load_config(config)
    else:
        missing = [f"--{name}" for name in ("model", "poisoned") if not options[name]]
        if missing:
            raise RequestError(f"{', '.join(missing)} missing: give --model and --poisoned, or --config")
        cfg = Config({"default_scope": "mmengine", "train_dataloader": _loader()})
    if options["model"]:
        cfg.model = {"type": "BackdoorClassifier", "spec": options["model"], "allow_import": options["allow_import"]}
        cfg.load_from = str(Path(options["model"]) / WEIGHTS_NAME)
        cfg.train_dataloader.dataset.spec = options["model"]
    data = cfg.train_dataloader.dataset
    data.original = cfg.load_from
    data.allow_import = bool(options["allow_import"])
    for name in ("poisoned", "clean", "seed", *DATASET_OPTIONS):
        if options.get(name) is not None:
            data[name] = options[name]
    if options["poisoned"] is not None:
        data.pop("trigger", None)  # the config's, for its own clean images
    data.force = bool(options["force"]) or data.get("force", False)
    given = options["target"] if options["target"] is not None else data.get("target")
    data.target = _target(cfg, given, console)
    recipe = CLEAN if data.get("clean") else STRICT
    for name, value in recipe["dataset"].items():
        data.setdefault(name, value)

    old = dict(cfg.get("unlearn") or {})
    old.pop("type", None)
    named = {name: options[name] for name in UNLEARN_OPTIONS if options.get(name) is not None}
    defaults = dict(recipe["unlearn"])
    if "lr" in old.get("optimizer", {}):
        defaults.pop("lr")
    elif recipe is CLEAN:  # strict mode's rises, until the watch stops it
        defaults["lr"] = rate_for(defaults["lr"], parameters_in(cfg.load_from))
    cfg.unlearn = unlearn_options([data.target], "DELETE", {**defaults, **old, **named, "classes": None})
    given_hooks = list(cfg.get("custom_hooks") or ())
    if not any(hook.get("type") == "BackdoorWatch" for hook in given_hooks):
        given_hooks += copy.deepcopy(recipe["hooks"])
    for hook in given_hooks:
        if hook.get("type") == "BackdoorWatch":
            hook["force"] = data.force
    cfg.custom_hooks = given_hooks
    cfg.runner_type = "UnlearnRunner"
    cfg.work_dir = options["work_dir"]
    cfg.resume = options["resume"]
    cfg.launcher = options["launcher"] or "none"
    if options["seed"] is not None:
        cfg.randomness = {"seed": options["seed"]}
    return cfg


def _loader() -> dict[str, Any]:
    return {
        "num_workers": 4 if torch.cuda.is_available() else 0,
        "sampler": {"type": "InfiniteSampler"},
        "collate_fn": {"type": "collate_images"},
        "dataset": {"type": "BackdoorDataset"},
    }


def _target(cfg: Config, given: str | int | None, console: Console) -> str:
    """The target's name; guessed, and said, where it is not given."""
    data, spec = cfg.train_dataloader.dataset, as_spec(cfg.train_dataloader.dataset.spec)
    if given is not None:
        (number,) = resolve_classes([given], spec.classes)
        return spec.classes[number]
    network = load_original(spec, cfg.load_from, data.get("allow_import", False))
    number, counts = guess_target(network, spec, open_samples(data.poisoned, spec.classes, "poisoned"))
    name = spec.classes[number]
    console.print(
        f"No --target given: taking '{name}', as which the model predicts {counts[name]} of {sum(counts.values())} poisoned "
        "samples."
    )
    return name


def run(cfg: Config, wanted: Wanted, console: Console) -> dict[str, Any] | None:
    """Clean and measure; writes cleaned/ (if the watch is content), results.json and backdoor.png into the work dir.

    Returns:
        What results.json holds; None on all processes but the first.

    Raises:
        RequestError: A trigger without test images, test images among those used to clean, or see
            :mod:`delete_backdoor.checks`.
    """
    torch.set_flush_denormal(True)
    spec = as_spec(cfg.train_dataloader.dataset.spec)
    if wanted.trigger is not None and wanted.test is None:
        raise RequestError("--trigger says how test images are attacked, and there are none; give --eval, too")
    test = None if wanted.test is None else open_data(wanted.test, "test", spec.classes)
    trigger = None if wanted.trigger is None else parse_trigger(wanted.trigger)
    (Path(cfg.work_dir) / "results.json").unlink(missing_ok=True)
    base = copy.deepcopy(cfg)
    runner, seconds = _train(cfg)
    if is_distributed():
        barrier()
        rank = get_rank()
        torch.distributed.destroy_process_group()  # the rest is the first process's work alone
        if rank:
            return None
    if runner.withheld is not None:
        _remove_states(Path(runner.work_dir))
    dataset, watch = runner.train_dataloader.dataset.dataset, watch_of(runner)
    if test is not None:
        check_overlap(test, dataset.clean)
    measured = _Measured(spec, dataset.target, test, trigger)
    original = load_original(cfg.model.spec, runner.teacher_path, cfg.model.get("allow_import", False))
    measured.add_original(original)
    name = "erased_strict" if dataset.strict else "erased_with_clean"
    measured.add(name, runner, seconds)
    for other, changed in _others(base, dataset.strict) if wanted.compare else ():
        with tempfile.TemporaryDirectory(prefix="delete_tasks_") as folder:
            changed.work_dir, changed.resume, changed.log_level = folder, False, "ERROR"
            changed.experiment_name = other  # runs that begin in the same second would share mmengine's visualizer
            measured.add(other, *_train(changed))
    results = {
        "task": "backdoor",
        "verdict": watch.verdict,
        "reason": watch.reason,
        "written": runner.published is not None,
        "target": spec.classes[dataset.target],
        "rows": {row: measured.rows.get(row) for row in ROWS},
        "definitions": DEFINITIONS,
        "watch": watch.summary(),
        "samples": dataset.counts(),
        "test": {"data": wanted.test, "trigger": wanted.trigger},
        "dataset": _plain(cfg.train_dataloader.dataset),
        "unlearn": {**cfg.unlearn.to_dict(), "seed": runner.seed},
        "seconds": seconds,
        "steps": runner.iter // runner.accumulation,
    }
    out = Path(runner.work_dir)
    save_json(results, out / "results.json")
    cleaned: Any = runner.unwrapped_model
    draw(out / "backdoor.png", dataset, original, cleaned.network, results)
    show(results, console)
    written = [*([runner.published] if runner.published else []), out / "results.json", out / "backdoor.png"]
    console.print(f"Written: {', '.join(map(str, written))}")
    write_record(runner, results)
    return results


def _train(cfg: Config) -> tuple[UnlearnRunner, float]:
    runner = UnlearnRunner.from_cfg(cfg)
    begin = time.monotonic()
    runner.train()
    return runner, round(time.monotonic() - begin, 1)


def watch_of(runner: UnlearnRunner) -> BackdoorWatch:
    """The watch of a run."""
    return next(hook for hook in runner.hooks if isinstance(hook, BackdoorWatch))


def _others(base: Config, strict: bool) -> list[tuple[str, Config]]:
    """Configs of the rows made for comparison; both need clean samples to differ from what was run."""
    if strict:
        return []
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


class _Measured:
    """Rows of the table as they come."""

    def __init__(self, spec: ModelSpec, target: int, test: ImageData | None, trigger: Trigger | None) -> None:
        self.spec, self.target, self.test = spec, target, test
        self.attacked = None if test is None or trigger is None else triggered(test, trigger, target)
        self.rows: dict[str, Any] = {}
        self.original: Answers | None = None

    def _answers(self, network: Any, name: str) -> tuple[Answers | None, Answers | None]:
        found = [
            None if data is None else answers(network, self.spec, data, f"{name}, {kind}")
            for data, kind in ((self.test, "clean"), (self.attacked, "triggered"))
        ]
        return found[0], found[1]

    def _row(self, clean: Answers | None, attacked: Answers | None) -> dict[str, Any]:
        if clean is None or self.original is None:
            return {}
        return figures(clean, attacked, self.original, self.target, self.spec.classes)

    def add_original(self, network: Any) -> None:
        clean, attacked = self._answers(network, "original")
        self.original = clean
        self.rows["original"] = self._row(clean, attacked)
        hidden = [None if found is None else cut(found, [self.target]) for found in (clean, attacked)]
        self.rows["logit_cut"] = self._row(hidden[0], hidden[1])

    def add(self, name: str, runner: UnlearnRunner, seconds: float) -> None:
        row = self._row(*self._answers(runner.unwrapped_model.network, name))
        watch = watch_of(runner)
        extra = {"verdict": watch.verdict, "reason": watch.reason, "seconds": seconds}
        self.rows[name] = {
            **row,
            **extra,
            "steps": runner.iter // runner.accumulation,
            "watch": watch.summary()["readings"],
        }


def _plain(data: Any) -> dict[str, Any]:
    """The dataset's options for results.json, its model's description left out."""
    return {name: value for name, value in data.to_dict().items() if name != "spec"}


def _remove_states(folder: Path) -> None:
    """A model that is not to be written is not to lie about as a state to resume from, either."""
    for path in (*folder.glob("step_*.pth"), folder / "last_checkpoint"):
        path.unlink(missing_ok=True)
