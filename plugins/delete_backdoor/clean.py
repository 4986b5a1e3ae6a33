"""The command ``backdoor clean``: take a backdoor out, watch, measure, and write the model only if the watch is content."""

import copy
import tempfile
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from mmengine.config import Config
from rich.console import Console

from delete_images.data.opening import NO_LABEL, check_overlap
from delete_images.models.model_file import as_spec
from delete_images.opened import opened_model
from delete_images.run_config import unlearn_options
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.functional import per_class_accuracy
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.compute import flush_subnormals
from delete_tasks.fileio.processes import process_rank
from delete_tasks.fileio.workdir import TEMPORARY
from delete_tasks.report.finish import report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config_checks import build_dataset
from delete_tasks.runner.states import train
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import register  # noqa: F401
from .checks import check_original
from .config import check_recipe
from .datasets import load_original
from .metrics import METRICS
from .opened import attacked_rows, open_run, reopening
from .picture import draw
from .recipes import STRICT, WITH_RETAIN_SET
from .report import lines_of
from .watch import BackdoorWatch

CAPTION = "Poisoned samples, and what the original and the cleaned model take them for."


def run(cfg: Config, wanted: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Clean and measure; writes cleaned/ (if the watch is content), results.json and backdoor.png into the work dir.

    What is measured beside the watch, ``wanted``, is ``test``, ``trigger``, ``compare`` (rows fine_tune and erased_strict, too)
    and ``wide`` of the command line. Data, models and every evaluation are tried before the first step. What fails after the
    last is "not measured", with the reason, and costs nothing else.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.

    Raises:
        RequestError: A trigger without test images, test images among those used to clean, see
            :mod:`delete_backdoor.checks` and :func:`delete_backdoor.opened.open_run`; nothing is written then.
    """
    flush_subnormals()
    require("matplotlib", "backdoor")
    options = cfg.train_dataloader.dataset
    spec = as_spec(options.spec)
    names = spec.classes
    (target,) = resolve_classes([options.target], names)
    check_recipe(cfg)
    teacher = cfg.unlearn.get("teacher") or cfg.load_from
    original = load_original(spec, teacher, cfg.model.get("allow_import", False))
    opened = open_run(original, spec, target, wanted.test, wanted.trigger)
    dataset: Any = build_dataset(options)
    check_overlap(opened.samples.values(), dataset.user_samples(), "to clean or set aside")
    _check_compare(wanted, dataset)
    _describe(opened, wanted, dataset)
    rows: dict[str, Any] = {}
    if process_rank() == 0:
        rows = opened.rows()
        check_original(rows.get("original", {}), len(names), options.get("force", False))
    base = copy.deepcopy(cfg)
    runner = UnlearnRunner.from_cfg(cfg, dataset)
    if not train(runner):
        return None
    evaluation = Evaluation(METRICS, [target], names)
    cleaned, runs = cast(Any, runner.unwrapped_model).network, {"erased": _of_run(runner)}

    def add(name: str, config: Config | None = None) -> None:
        network = cleaned
        if config is not None:
            network, runs[name] = _other(name, config)
        opened.models[name] = opened_model(network, spec)
        rows.update(opened.rows([name]))

    for name, config in _others(base) if wanted.compare else ():
        evaluation.attempt(name, partial(add, name, config))
    evaluation.attempt("erased", partial(add, "erased"))
    for name, row in rows.items():
        evaluation.add(name, row)
    watch, attacked = watch_of(runner), rows.get("erased", {}).get("triggered")
    given = {name: value for name, value in options.to_dict().items() if name != "spec"}
    results = collect(
        runner,
        evaluation,
        data={**given, "test": wanted.test, "trigger": wanted.trigger},
        measured_on=None if wanted.test is None else f"{wanted.test}, trigger {wanted.trigger or 'not given'}",
        predicted_as=None if attacked is None else torch.bincount(attacked.predicted, minlength=len(names)),
        details={
            "verdict": watch.verdict,
            "reason": watch.reason,
            "watch": watch.summary(),
            "samples": dataset.counts(),
            "runs": runs,
            "per_class": {
                name: dict(zip(names, per_class_accuracy(row["test"].counts), strict=True))
                for name, row in rows.items()
                if "test" in row
            },
        },
    )
    return report(
        runner,
        evaluation,
        results,
        opened,
        console,
        title=f"Backdoor to '{names[target]}': percent of test images",
        wide=wanted.wide,
        picture=("backdoor.png", partial(draw, dataset, original, cleaned, results), CAPTION),
        lines=lines_of,
        attacked=partial(attacked_rows, evaluation.data, target),
    )


def _describe(opened: Opened, wanted: SimpleNamespace, dataset: Any) -> None:
    """Add what the erasure record tells of the samples."""
    kinds = "trigger-free views" if dataset.strict else "retain samples"
    opened.other_samples = {
        kinds: list(dataset.retain.names),
        "poisoned samples set aside": list(dataset.held_poisoned.names),
        f"{kinds} set aside": list(dataset.held_retain.names),
    }
    if wanted.test is not None:
        opened.reopen = reopening(wanted.test, wanted.trigger, dataset.target, dataset.spec_json)


def _check_compare(wanted: SimpleNamespace, dataset: Any) -> None:
    """Refuse a comparison that would make no row."""
    if wanted.compare and dataset.strict:
        raise RequestError(
            "--compare makes rows that need a retain set, or are the run itself without; give --retain, too"
        )
    if wanted.compare and (dataset.retain.labels == NO_LABEL).all():
        raise RequestError("--compare fine-tunes on the labels of --retain, and these samples have none; give labels")


def _other(name: str, changed: Config) -> tuple[Any, dict[str, Any]]:
    """Make the network of a run for comparison, and its notes."""
    # In the work dir, so that what a killed run leaves of it is swept when the next begins.
    with tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=changed.work_dir) as folder:
        changed.work_dir, changed.resume, changed.log_level = folder, False, "ERROR"
        changed.experiment_name = name  # runs that begin in the same second would share mmengine's visualizer
        runner = UnlearnRunner.from_cfg(changed, build_dataset(changed.train_dataloader.dataset))
        runner.train()
        return cast(Any, runner.unwrapped_model).network, _of_run(runner)


def _of_run(runner: UnlearnRunner) -> dict[str, Any]:
    """Describe, for results.json, the run that made a row's network."""
    watch = watch_of(runner).summary()
    steps = runner.iter // runner.accumulation
    told = {name: watch[name] for name in ("verdict", "reason", "readings")}
    return {**told, "seconds": runner.outcome.seconds["unlearning"], "steps": steps}


def watch_of(runner: UnlearnRunner) -> BackdoorWatch:
    """Find the watch of a run."""
    return next(hook for hook in runner.hooks if isinstance(hook, BackdoorWatch))


def _others(base: Config) -> list[tuple[str, Config]]:
    """Configs of the rows made for comparison, of a run with a retain set."""
    tuned, alone = copy.deepcopy(base), copy.deepcopy(base)
    options = {"optimizer", "steps", "batch_size", "norm_eval", "classes", "schedule"}
    tuned.unlearn = {"type": "FineTune", **{k: v for k, v in tuned.unlearn.items() if k in options}}
    tuned.train_dataloader.dataset.update(mix=0.0, trigger_patches=0.0)  # neither has a label
    data = alone.train_dataloader.dataset
    data.pop("retain")
    data.update(STRICT["dataset"], trigger_patches=0.0)
    steps = min(base.unlearn.steps, STRICT["unlearn"]["steps"])
    alone.unlearn = unlearn_options([data.target], "DELETE", {**STRICT["unlearn"], "steps": steps})
    own = {hook["type"] for recipe in (WITH_RETAIN_SET, STRICT) for hook in recipe["hooks"]}
    alone.custom_hooks = [hook for hook in alone.custom_hooks if hook.get("type") not in own] + copy.deepcopy(
        STRICT["hooks"]
    )
    return [("fine_tune", tuned), ("erased_strict", alone)]
