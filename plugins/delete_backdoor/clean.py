"""The command ``backdoor clean``: its config, the run, figures, and the model if the watch calls it cleaned."""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from mmengine.config import Config
from rich.console import Console

from delete_images.data.opening import NO_LABEL
from delete_images.models.model_file import as_spec
from delete_images.opened import opened_model, refuse_no_logits
from delete_images.run_config import begin_config, count, method_class, over_defaults, state_in, unlearn_options
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.functional import per_class_accuracy
from delete_tasks.fileio.compute import flush_subnormals, multiplies_bfloat16
from delete_tasks.fileio.processes import process_rank
from delete_tasks.report.finish import report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config import set_run
from delete_tasks.request.config_checks import build_dataset
from delete_tasks.runner.states import train
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import register  # noqa: F401
from .checks import check_original, guess_target
from .datasets import load_original
from .metrics import METRICS
from .opened import attacked_rows, keep_apart, open_run
from .picture import draw, lines_of
from .ranking import open_samples
from .recipes import CLEANING, LABELLED, RECIPES, dataset_options
from .watch import BackdoorWatch

DATASET_OPTIONS = ("views", *CLEANING["dataset"])
UNLEARN_OPTIONS = ("teacher_temperature", *CLEANING["unlearn"])
READINGS = 20  # of the watch
CAPTION = "Poisoned samples, and their predictions by the original and the cleaned model."


def make_config(config: str | None, options: Mapping[str, Any], console: Console) -> Config:
    """Make a run's config from a file or a model folder, with the options that are not None; print a guessed target."""
    cfg = begin_config(config, options, "Backdoor")
    data = cfg.train_dataloader.dataset
    data.original = cfg.load_from
    data.allow_import = bool(options["allow_import"])
    names = ("poisoned", "retain", "seed", *DATASET_OPTIONS)
    data.update({name: options[name] for name in names if options.get(name) is not None})
    if options["poisoned"] is not None:
        data.pop("trigger", None)  # the config's, for its own clean images
    elif config is None:
        data.poisoned, data.trigger = options["retain"], options["trigger"]
    data.force = bool(options["force"]) or data.get("force", False)
    data.target = _target(cfg, options["target"], console)
    beside = bool(data.get("retain"))
    if not beside and data.get("paste") == 0:
        raise RequestError(
            "--paste is 0 and --retain is missing: strict mode learns from samples with the estimated trigger pasted on; give "
            "--paste above 0, or samples without a trigger (--retain)"
        )
    unlearn = dict(cfg.get("unlearn") or {})
    # An inverted trigger is one of many that work.
    inverted = config is None and options["poisoned"] is None and str(options["trigger"]).startswith("estimated:")
    inverted &= data.get("paste") != 0
    method = options.get("method") or unlearn.pop("type", "InversionDELETE" if inverted else "DELETE")
    if method not in RECIPES.methods:
        raise RequestError(f"backdoor clean takes the methods {', '.join(RECIPES.methods)}, got {method!r}")
    if method in LABELLED and not beside:
        raise RequestError(f"{method} learns from clean samples with labels; give --retain, or use --method DELETE")
    for name, value in dataset_options(method, not beside).items():
        data.setdefault(name, value)
    named = {name: options[name] for name in UNLEARN_OPTIONS if options.get(name) is not None}
    recipe = method_class(method).defaults(RECIPES, parameters=count(state_in(cfg.load_from)), strict=not beside)
    recipe = over_defaults(recipe, unlearn)
    cfg.unlearn = unlearn_options([data.target], method, {**recipe, **named, "classes": None, "type": None})
    hooks = list(cfg.get("custom_hooks") or ())
    if not any(hook.get("type") == "BackdoorWatch" for hook in hooks):
        changes: dict[str, Any] = {"interval": max(1, cfg.unlearn.steps // READINGS)}
        if not beside:  # trigger-free views differ more from the first steps on
            changes["restart"] = 0.0
        hooks += [{**hook, **changes} for hook in CLEANING["hooks"]]
    for hook in hooks:
        if hook.get("type") == "BackdoorWatch":
            hook["force"] = data.force
    cfg.custom_hooks = hooks
    set_run(cfg, {**options, "amp": multiplies_bfloat16()})
    return cfg


def _target(cfg: Config, wanted: str | int | None, console: Console) -> str:
    """Return the name of the target: the ``wanted`` one, the config's, or a guess, which is printed."""
    data, spec = cfg.train_dataloader.dataset, as_spec(cfg.train_dataloader.dataset.spec)
    target = data.get("target") if wanted is None else wanted
    if target is not None:
        (label,) = resolve_classes([target], spec.classes)
        return spec.classes[label]
    network = load_original(spec, cfg.load_from, data.get("allow_import", False))
    name, counts = guess_target(network, spec, open_samples(data.poisoned, spec.classes, "poisoned"))
    console.print(
        f"No --target: taking '{name}', which the model predicts for {counts[name]} of {sum(counts.values())} poisoned samples."
    )
    return name


def run(cfg: Config, args: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Clean and measure; write cleaned/ (if the verdict is 'cleaned'), results.json and backdoor.png into the work dir. ``test``,
    ``trigger`` and ``wide`` of ``args`` say what is measured beside the watch. Data, models and every evaluation are tried before
    the first step; a measurement that fails after the last one is "not measured", with the reason. Return the content of
    results.json, and the command's ``exit_status``; None on all processes but the first."""
    flush_subnormals()
    require("matplotlib", "backdoor")
    options = cfg.train_dataloader.dataset
    spec = as_spec(options.spec)
    names = spec.classes
    (target,) = resolve_classes([options.target], names)
    original = load_original(spec, cfg.unlearn.get("teacher") or cfg.load_from, cfg.model.get("allow_import", False))
    # Without test images, a trigger that the retain samples get is for them alone.
    trigger = None if args.test is None and args.trigger == options.get("trigger") else args.trigger
    opened = open_run(original, spec, target, args.test, trigger)
    dataset: Any = build_dataset(options)
    refuse_no_logits(opened.models["original"], dataset.poisoned)
    keep_apart(opened, target, dataset.user_samples)
    opened.copies = [*dataset.copies, *opened.copies]
    if cfg.unlearn.type in LABELLED and (dataset.retain.labels == NO_LABEL).all():
        raise RequestError(f"{cfg.unlearn.type} learns from the labels of --retain, and these samples have none")
    kind, aside = "trigger-free views" if dataset.strict else "retain samples", "poisoned samples set aside"
    sets = {kind: dataset.retain, aside: dataset.held_poisoned, f"{kind} set aside": dataset.held_retain}
    opened.other_samples = {name: list(samples.names) for name, samples in sets.items()}
    rows: dict[str, Any] = {}
    if process_rank() == 0:
        rows = opened.rows()
        check_original(rows.get("original", {}), len(names), options.get("force", False))
    runner = UnlearnRunner.from_cfg(cfg, dataset)
    if not train(runner):
        return None
    evaluation = Evaluation(METRICS, [target], names)
    cleaned = cast(Any, runner.unwrapped_model).network

    def add() -> None:
        opened.models["erased"] = opened_model(cleaned, spec)
        rows.update(opened.rows(["erased"]))

    evaluation.attempt("erased", add)
    for name, row in rows.items():
        evaluation.add(name, row)
    watch = next(hook for hook in runner.hooks if isinstance(hook, BackdoorWatch))
    attacked = rows.get("erased", {}).get("triggered")
    data = {name: value for name, value in options.to_dict().items() if name != "spec"}
    tested = {name: row["test"] for name, row in rows.items() if "test" in row}
    per_class = {name: dict(zip(names, per_class_accuracy(row.counts), strict=True)) for name, row in tested.items()}
    judged = {"verdict": watch.verdict, "reason": watch.reason, "watch": watch.summary()}
    results = collect(
        runner,
        evaluation,
        data={**data, "test": args.test, "trigger": args.trigger},
        measured_on=None if args.test is None else f"{args.test}, trigger {args.trigger or 'not given'}",
        predicted_as=None if attacked is None else torch.bincount(attacked.predicted, minlength=len(names)),
        details={**judged, "samples": dataset.counts(), "per_class": per_class},
    )
    return report(
        runner,
        evaluation,
        results,
        opened,
        console,
        title=f"Backdoor to '{names[target]}': percent of test images",
        wide=args.wide,
        picture=("backdoor.png", partial(draw, dataset, original, cleaned, results), CAPTION),
        lines=lines_of,
        attacked=partial(attacked_rows, evaluation.data, target),
    )
