"""The command ``backdoor clean``: take a backdoor out, watch, measure, and write the model only if the watch is content."""

from __future__ import annotations

import copy
import tempfile
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from mmengine.config import Config
from rich.console import Console

from delete_images.data import NO_LABEL, check_overlap
from delete_images.model_file import as_spec
from delete_images.runs import unlearn_options
from delete_tasks.compute import flush_subnormals
from delete_tasks.config_checks import build_dataset
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation, cut
from delete_tasks.evaluation.functional import per_class_accuracy
from delete_tasks.evaluation.results import collect
from delete_tasks.finish import report
from delete_tasks.masking import resolve_classes
from delete_tasks.processes import process_rank
from delete_tasks.run_files import train
from delete_tasks.runner import UnlearnRunner
from delete_tasks.workdir import TEMPORARY

from . import register  # noqa: F401
from .audited import rows_of_run
from .config import check_recipe
from .datasets import load_original
from .evaluation import check_original, open_test, predict_tests
from .metrics import METRICS
from .picture import draw
from .recipes import STRICT, WITH_RETAIN_SET
from .report import lines_of
from .watch import BackdoorWatch


def run(cfg: Config, wanted: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Clean and measure; writes cleaned/ (if the watch is content), results.json and backdoor.png into the work dir.

    What is measured beside the watch, ``wanted``, is ``test``, ``trigger``, ``compare`` (rows fine_tune and erased_strict, too)
    and ``wide`` of the command line. Data, models and every evaluation are tried before the first step. What fails after the
    last is "not measured", with the reason, and costs nothing else.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.

    Raises:
        RequestError: A trigger without test images, test images among those used to clean, see
            :mod:`delete_backdoor.checks` and :mod:`delete_backdoor.evaluation`; nothing is written then.
    """
    flush_subnormals()
    require("matplotlib", "backdoor")
    options = cfg.train_dataloader.dataset
    spec = as_spec(options.spec)
    names = spec.classes
    (target,) = resolve_classes([options.target], names)
    check_recipe(cfg)
    test = open_test(wanted.test, wanted.trigger, spec, target)
    dataset: Any = build_dataset(options)
    check_overlap(test.values(), dataset.user_samples(), "to clean or set aside")
    _check_compare(wanted, dataset)
    teacher = cfg.unlearn.get("teacher") or cfg.load_from
    original = load_original(cfg.model.spec, teacher, cfg.model.get("allow_import", False))
    rows: dict[str, Any] = {}
    if process_rank() == 0:
        rows["original"] = predict_tests(original, spec, test, "original")
        check_original(rows["original"], len(names), options.get("force", False))
        rows["logit_cut"] = {kind: cut(found, [target]) for kind, found in rows["original"].items()}
    base = copy.deepcopy(cfg)
    runner = _runner(cfg, dataset)
    if not train(runner):
        return None
    evaluation = Evaluation(METRICS, [target], names)
    cleaned, runs = cast(Any, runner.unwrapped_model).network, {"erased": _of_run(runner)}

    def add(name: str, config: Config | None = None) -> None:
        network = cleaned
        if config is not None:
            network, runs[name] = _other(name, config)
        rows[name] = predict_tests(network, spec, test, name)

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
        console,
        title=f"Backdoor to '{names[target]}': percent of test images",
        wide=wanted.wide,
        picture=("backdoor.png", partial(draw, dataset, original, cleaned, results)),
        lines=lines_of,
        attacked=partial(rows_of_run, evaluation.data, target),
    )


def _check_compare(wanted: SimpleNamespace, dataset: Any) -> None:
    """Refuse a comparison that would make no row."""
    if wanted.compare and dataset.strict:
        raise RequestError(
            "--compare makes rows that need a retain set, or are the run itself without; give --retain, too"
        )
    if wanted.compare and (dataset.retain.labels == NO_LABEL).all():
        raise RequestError("--compare fine-tunes on the labels of --retain, and these samples have none; give labels")


def _other(name: str, changed: Config) -> tuple[Any, dict[str, Any]]:
    """The network of a run for comparison, and its notes."""
    # In the work dir, so that what a killed run leaves of it is swept when the next begins.
    with tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=changed.work_dir) as folder:
        changed.work_dir, changed.resume, changed.log_level = folder, False, "ERROR"
        changed.experiment_name = name  # runs that begin in the same second would share mmengine's visualizer
        runner = _runner(changed, build_dataset(changed.train_dataloader.dataset))
        runner.train()
        return cast(Any, runner.unwrapped_model).network, _of_run(runner)


def _of_run(runner: UnlearnRunner) -> dict[str, Any]:
    """What results.json says of the run that made a row's network."""
    watch = watch_of(runner).summary()
    steps = runner.iter // runner.accumulation
    told = {name: watch[name] for name in ("verdict", "reason", "readings")}
    return {**told, "seconds": runner.seconds["unlearning"], "steps": steps}


def _runner(cfg: Config, dataset: Any) -> UnlearnRunner:
    """A run on a dataset that was built, and so checked, before the work dir existed."""
    runner = UnlearnRunner.from_cfg(cfg)
    runner.data_config = copy.deepcopy(runner._train_dataloader["dataset"])
    runner._train_dataloader["dataset"] = dataset
    return runner


def watch_of(runner: UnlearnRunner) -> BackdoorWatch:
    """The watch of a run."""
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
