"""Command ``images forget``: unlearn, measure before and after, write the erased model, figures and picture."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.config import Config
from rich.console import Console

from delete_tasks.cli.options import DEEP_METHOD
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.functional import per_class_accuracy
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.compute import choose_device, multiplies_bfloat16
from delete_tasks.fileio.workdir import WorkDir
from delete_tasks.report.earlier import earlier_run
from delete_tasks.report.finish import report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config import set_run
from delete_tasks.request.config_checks import build_dataset
from delete_tasks.runner.forecast import dry_run as described
from delete_tasks.runner.states import train
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import run_config as runs
from .data.datasets import collate_images
from .data.opening import NO_LABEL
from .metrics import METRICS, lines_of
from .models.model_file import ModelSpec, as_spec, load_model
from .opened import check_classes, columns_of, opened_model, refuse_no_logits
from .picture import draw_confusions, predicted_as
from .recipes import PRESETS
from .register import TASK
from .rows import compare_without_labels, frontier_of, measure, open_run, show_frontier

PICTURE = "confusion_before_after.png"
UNLEARN_OPTIONS = ("steps", "lr", "batch_size", "schedule", "teacher_temperature", "temperature", "masking", "stop", "norm_eval",
                   "keep_row", "avoid", "into", "public")  # fmt: skip


def make_config(config: str | None, options: Mapping[str, Any]) -> Config:
    """Make a run's config, a file's or a model folder's, with the options; refuse ``--deep`` or a preset with a method."""
    cfg = runs.begin_config(config, options, "Image")
    data, old = cfg.train_dataloader.dataset, dict(cfg.get("unlearn") or {})
    method, preset = options["method"], options.get("preset")
    if preset is not None:
        if options.get("deep") or method is not None or old.get("type", "DELETE") != "DELETE":
            raise RequestError(f"--preset {preset} is a recipe of DELETE; leave --preset or the other method out")
        if preset not in PRESETS:
            raise RequestError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
        recipe = copy.deepcopy(PRESETS[preset])
        data.augment = recipe.pop("augment")
        old = {**recipe, **old} if config is None else {**old, **recipe}
    for key, option in (("data", "forget"), ("retain", "retain"), ("augment", "augment")):
        if options[option] is not None:
            data[key] = options[option]
    if options["workers"] is not None:
        cfg.train_dataloader.num_workers = options["workers"]

    unlearn = {**old, **{name: options[name] for name in UNLEARN_OPTIONS if options[name] not in (None, [], ())}}
    if options.get("deep") and method not in (None, DEEP_METHOD):
        raise RequestError(f"--deep is --method {DEEP_METHOD}; leave --deep or --method {method} out")
    public, retain = unlearn.get("public") is not None, data.get("retain") is not None
    state, steps = runs.state_in(cfg.load_from), unlearn.get("steps")
    classes = len(as_spec(cfg.model.spec).classes) if state else 0
    default = runs.default_method(data.get("augment") or "strong", steps, state, classes, public, retain)
    method = DEEP_METHOD if options.get("deep") else method or old.get("type") or default
    if method != unlearn.pop("type", default):
        unlearn.pop("optimizer", None)  # the rate of another method
    data.setdefault("augment", runs.method_class(method).views)
    recipe = runs.default_recipe(method, data.augment, runs.count(state), public or retain, steps)
    unlearn = runs.over_defaults(recipe, unlearn)
    forgotten = list(options["classes"] or ()) or old.get("classes") or ()
    cfg.unlearn = runs.unlearn_options(forgotten, method, {**unlearn, "classes": None})
    runs.check_retain(method, data.get("retain"), public)
    amp = options.get("amp")
    if amp is None and method == DEEP_METHOD and not cfg.get("optim_wrapper"):
        amp = multiplies_bfloat16(avx512=True)  # docs/benchmarks/performance.md
    set_run(cfg, {**options, "amp": amp})
    return cfg


def dry_run(cfg: Config, args: SimpleNamespace, console: Console) -> None:
    """Check everything and print what a run would do, and its time; nothing is trained, nothing is written."""
    opened, dataset = check(cfg, as_spec(cfg.model.spec), args)
    opened.to(choose_device())
    for line in described(cfg, opened, dataset, collate_images):
        console.print(line)


def run(cfg: Config, args: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Unlearn and measure; write erased/, results.json and confusion_before_after.png into the config's work dir. ``args`` are
    the options for measuring, see :func:`delete_images.rows.open_run`. Refuse requests before the first step; if measuring fails,
    results.json has the reason. Return its content and the command's ``exit_status``; None on all processes but the first."""
    spec = as_spec(cfg.model.spec)
    opened, built = check(cfg, spec, args)
    runner = UnlearnRunner.from_cfg(cfg, built)
    if not train(runner):
        return None
    opened.models["erased"] = opened_model(runner.unwrapped_model, spec)
    return _report(runner, spec, opened, args, console)


def evaluate(args: SimpleNamespace, record: Mapping[str, Any], work: WorkDir, console: Console) -> dict[str, Any]:
    """Measure the erased model ``args.erased`` that an earlier run made of ``args.original``, and write the same into the work
    dir. Refuse models of other classes or shapes, and what :func:`delete_images.rows.open_run` refuses."""
    paths = {"original": args.original, "erased": args.erased}
    cfg = runs.begin_config(None, {"model": args.original, "allow_import": args.allow_import}, "Image")
    cfg.unlearn, cfg.record = {"classes": args.classes}, record
    spec = as_spec(cfg.model.spec)
    ids = resolve_classes(args.classes, spec.classes)
    opened = open_run(cfg, spec, ids, None, args)
    network, erased = load_model(args.erased, args.allow_import)
    check_classes(erased.classes, spec.classes, ids, f"erased model '{args.erased}'", True)
    original: Any = opened.models["original"].module
    first, second = ({name: t.shape for name, t in net.state_dict().items()} for net in (original.network, network))
    if first != second:
        raise RequestError(
            f"the erased model '{args.erased}' has tensors of other names or shapes than '{args.original}'; give the original "
            "that it was made of"
        )
    columns = columns_of(erased.classes, spec.classes, ids, True)
    if args.frontier and columns != list(range(len(columns))):
        raise RequestError(
            f"--frontier mixes weights class by class, and '{args.erased}' has its classes in another order than "
            f"'{args.original}'; leave it out"
        )
    opened.models["erased"] = opened_model(network.to(choose_device()), erased, columns)
    runner: Any = earlier_run(TASK, opened.models["erased"].module, opened, paths, cfg, work)
    results = _report(runner, spec, opened, args, console, args.frontier)
    show_frontier(console, results["details"].get("frontier") or ())
    return results


def _report(
    runner: UnlearnRunner, spec: ModelSpec, opened: Opened, args: Any, console: Console, frontier: bool = False
) -> dict[str, Any]:
    """Measure a finished run, and write its results."""
    ids, names, dataset = runner.selection.forget_ids, spec.classes, runner.cfg.train_dataloader.dataset
    evaluation = Evaluation(METRICS, ids, names, opened.not_measured, opened.expected, opened.avoid)
    rows = evaluation.attempt("rows", partial(measure, runner, spec, opened, evaluation)) or {}
    tested = {name: row["test"] for name, row in rows.items() if "test" in row}
    others = {} if tested else evaluation.attempt("kept", partial(compare_without_labels, runner, opened)) or {}
    read = {"forget": dataset.get("data"), "retain": dataset.get("retain"), "public": runner.cfg.unlearn.get("public")}
    if frontier and tested:
        others["frontier"] = evaluation.attempt("frontier", partial(frontier_of, opened, spec, ids, rows))
    per_class = {name: dict(zip(names, per_class_accuracy(row.counts), strict=True)) for name, row in tested.items()}
    results = collect(
        runner,
        evaluation,
        data={**read, "test": args.test, "train": args.train_data},
        measured_on=args.test,
        predicted_as=predicted_as(tested["erased"], ids) if tested else None,
        details={**others, "per_class": per_class},
    )

    def draw(path: Path) -> None:
        if tested:
            draw_confusions(path, tested["original"], tested["erased"], names, ids)

    on = "test images" if args.test else "the forget set" if args.train_data is None else "training images"
    title = f"Forgetting {', '.join(results['forgotten'])}: percent of {on}{'; NLL and ECE of the others' if tested else ''}"
    picture = (PICTURE, draw, "Predictions by class, before and after, in percent.")
    return report(
        runner, evaluation, results, opened, console, title=title, wide=args.wide, picture=picture, lines=lines_of
    )


def check(cfg: Config, spec: ModelSpec, args: SimpleNamespace) -> tuple[Opened, Any]:
    """Check a request before anything is written; open the models and data to measure, and the dataset of the run. Refuse unknown
    classes; data or models that cannot be read or measured; unlabelled images for a method that reads labels; a retain set with
    public data, or with forgotten classes; retain, public or test images of which too many are copies."""
    request = runs.request_of(cfg.unlearn)
    ids = request.resolve(spec.classes)
    if request.fill == "surroundings":
        raise RequestError("fill='surroundings' is for maps of pixels; use avoid=[...] to exclude classes")
    options = cfg.train_dataloader.dataset
    dataset: Any = build_dataset(options)
    unlabelled, public = int((dataset.labels == NO_LABEL).sum()), cfg.unlearn.get("public")
    if unlabelled and runs.method_class(cfg.unlearn.type).needs_labels:
        raise RequestError(
            f"{cfg.unlearn.type} reads labels, but {unlabelled} of {len(dataset)} images in '{options.data}' have none; give "
            "them a label with ?label=NAME, or use --method DELETE"
        )
    if dataset.retain is not None:
        forgotten = [spec.classes[i] for i in ids if i in dataset.retain.labels]
        if forgotten:
            raise RequestError(
                f"the retain set '{options.retain}' holds images of classes to forget, {', '.join(forgotten)}; leave them out, "
                f"e.g. with ?without={','.join(forgotten)}"
            )
    if public is not None:
        dataset.add_public(public)
    opened = open_run(cfg, spec, ids, dataset, args)
    refuse_no_logits(opened.models["original"], dataset.data)
    return opened, dataset
