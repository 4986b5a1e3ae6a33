"""The command ``images forget``: unlearn, measure before and after, write the erased model, figures and picture."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mmengine.config import Config
from rich.console import Console

from delete_tasks.cli.options import DEEP_METHOD
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.functional import per_class_accuracy
from delete_tasks.evaluation.opened import Opened
from delete_tasks.report.finish import report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import ForgetRequest
from delete_tasks.request.config import set_run
from delete_tasks.request.config_checks import build_dataset
from delete_tasks.runner.states import train
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import register  # noqa: F401
from . import run_config as runs
from .data.opening import NO_LABEL, check_overlap
from .metrics import METRICS
from .models.model_file import ModelSpec, as_spec
from .opened import opened_model
from .picture import confusions, draw_confusions, predicted_as
from .rows import measure, open_run

PICTURE = "confusion_before_after.png"
UNLEARN_OPTIONS = ("steps", "lr", "batch_size", "schedule", "teacher_temperature", "temperature", "masking", "stop", "norm_eval",
                   "keep_row", "avoid", "public")  # fmt: skip


def make_config(config: str | None, options: Mapping[str, Any]) -> Config:
    """Make the config of a run from the command line: a file's, or one made from a model folder, with its changes. Options
    that are None leave the config's value, or the default.

    Raises:
        RequestError: Neither a config nor a model, data and classes.
    """
    classes = list(options["classes"] or ())
    cfg = runs.begin_config(config, options, ("model", "forget", "classes"), "Image")
    data = cfg.train_dataloader.dataset
    for key, given in (("data", options["forget"]), ("retain", options["retain"])):
        if given is not None:
            data[key] = given
    if options["workers"] is not None:
        cfg.train_dataloader.num_workers = options["workers"]

    old = dict(cfg.get("unlearn") or {})
    given = {**old, **{name: options[name] for name in UNLEARN_OPTIONS if options[name] not in (None, [], ())}}
    asked = _asked_method(options)
    method = asked or given.pop("type", "DELETE")
    given.pop("type", None)
    if asked and asked != old.get("type", "DELETE"):
        given.pop("optimizer", None)  # another method's rate
    if options["augment"] is not None:
        data.augment = options["augment"]
    data.setdefault("augment", runs.method_class(method).views)
    beside = data.get("retain") is not None or given.get("public") is not None
    given = {**runs.default_recipe(method, data.augment, runs.parameters_in(cfg.load_from), beside), **given}
    if "lr" in given.get("optimizer", {}) and options["lr"] is None:
        given.pop("lr")
    cfg.unlearn = runs.unlearn_options(classes or given.pop("classes", None) or (), method, {**given, "classes": None})
    runs.check_retain(method, data.get("retain"), given.get("public") is not None)
    set_run(cfg, options)
    return cfg


def _asked_method(options: Mapping[str, Any]) -> str | None:
    """Return the method that ``--method`` names, or ``--deep`` stands for."""
    method, deep = options["method"], options.get("deep")
    if deep and method not in (None, DEEP_METHOD):
        raise RequestError(
            f"--deep is --method {DEEP_METHOD}, and --method {method} is given, too; leave one of them out"
        )
    return DEEP_METHOD if deep else method


def run(cfg: Config, args: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Unlearn and measure; writes erased/, results.json and confusion_before_after.png into the config's work dir. The command
    line says what is measured, see :func:`delete_images.rows.open_run`.

    What can be refused is refused before the first step. What fails while measuring leaves the model, and results.json says why.

    Returns:
        What results.json holds, and the command's ``exit_status``; None on all processes but the first.
    """
    spec = as_spec(cfg.model.spec)
    opened, built = check(cfg, spec, args)
    runner = UnlearnRunner.from_cfg(cfg, built)
    if not train(runner):
        return None
    opened.models["erased"] = opened_model(runner.unwrapped_model, spec)
    ids, names, dataset = runner.selection.forget_ids, spec.classes, cfg.train_dataloader.dataset
    evaluation = Evaluation(METRICS, ids, names, opened.not_measured, opened.expected)
    rows = evaluation.attempt("rows", partial(measure, runner, cfg, spec, opened, evaluation)) or {}
    tested = {name: row["test"] for name, row in rows.items() if "test" in row}
    results = collect(
        runner,
        evaluation,
        data={
            "forget": dataset.data,
            "retain": dataset.get("retain"),
            "public": cfg.unlearn.get("public"),
            "test": args.test,
            "train": args.train_data,
        },
        measured_on=args.test,
        predicted_as=predicted_as(tested["erased"], ids) if tested else None,
        details={
            "per_class": {
                name: dict(zip(names, per_class_accuracy(found.counts), strict=True)) for name, found in tested.items()
            }
        },
    )

    def draw(path: Path) -> None:
        if tested:
            draw_confusions(path, *confusions(tested["original"], tested["erased"], ids), names, ids)

    on = "test images" if args.test else "the forget set" if args.train_data is None else "training images"
    title = f"Forgetting {', '.join(results['forgotten'])}: percent of {on}{'; NLL and ECE of the others' if tested else ''}"
    picture = (PICTURE, draw, "What each class is taken for, before and after, in percent.")
    return report(runner, evaluation, results, opened, console, title=title, wide=args.wide, picture=picture)


def check(cfg: Config, spec: ModelSpec, args: SimpleNamespace) -> tuple[Opened, Any]:
    """Refuse what can be refused, before anything is written.

    Returns:
        What will be measured, and the dataset of the run.

    Raises:
        RequestError: Unknown classes; data or models that cannot be read, or that cannot be measured on; unlabelled images where
            the method reads labels; a retain set beside public data, or one that shows a forgotten class; public data that are
            forget images alone; test images among those of any of these.
    """
    request = ForgetRequest(
        cfg.unlearn.classes, avoid=cfg.unlearn.get("avoid", ()), fill=cfg.unlearn.get("fill", "second")
    )
    ids = request.resolve(spec.classes)
    if request.fill == "surroundings":
        raise RequestError("fill='surroundings' is for maps of pixels; use avoid=[...] to rule classes out")
    options = cfg.train_dataloader.dataset
    dataset: Any = build_dataset(options)
    unlabelled, public = int((dataset.labels == NO_LABEL).sum()), cfg.unlearn.get("public")
    if unlabelled and runs.method_class(cfg.unlearn.type).needs_labels:
        raise RequestError(
            f"{cfg.unlearn.type} reads labels, and {unlabelled} of {len(dataset)} images in '{options.data}' have none; say what "
            "they are with ?label=NAME, or use --method DELETE"
        )
    if dataset.retain is not None:
        shown = [spec.classes[i] for i in ids if i in dataset.retain.labels]
        if shown:
            raise RequestError(
                f"the retain set '{options.retain}' shows {', '.join(shown)}, which is to be forgotten; leave that out, e.g. "
                f"with ?without={','.join(shown)}"
            )
    if public is not None:
        dataset.add_public(public)
        if set(dataset.data.digests()).issuperset(dataset.retain.digests()):
            raise RequestError(
                f"the public data '{public}' are images that are to be forgotten, and no others; give images of other things, or "
                "leave --public out: views of the forget set are used then"
            )
    opened = open_run(cfg, spec, ids, dataset, args)
    test = opened.samples.get("test")
    if test is not None:
        check_overlap([test.subset(np.isin(test.labels, ids))], [dataset.data], "to forget")
        if dataset.retain is not None:
            check_overlap([test], [dataset.retain], "as public data" if public is not None else "as retain set")
    return opened, dataset
