"""The segmentation command's work: unlearn, evaluate before and after, write the erased model, figures and picture."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_rank
from rich.console import Console

from delete_tasks.checkpoint import load_file, load_state, state_dict_of
from delete_tasks.config_file import load_config, set_run
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation, LocationCounts
from delete_tasks.evaluation.predictions import ROWS
from delete_tasks.evaluation.results import collect
from delete_tasks.finish import refuse_unmeasured, report
from delete_tasks.options import DEEP_METHOD
from delete_tasks.runner import UnlearnRunner
from delete_tasks.task import task_for

from .audited import rows_of_run
from .checks import check_data, check_request, predict, shown_by
from .evaluate import METRICS, HeadIsNotLastError, per_class, second_head
from .picture import choose_images, draw
from .recipes import PRESETS

RECIPE = ("steps", "schedule", "optimizer", "readout")


def make_config(
    config: str, checkpoint: str, classes: Sequence[str], work_dir: str, options: Mapping[str, Any]
) -> Config:
    """An MMSegmentation config, with or without ``unlearn`` in it, for the run that the command line describes. No ``classes``
    takes those of the config's ``unlearn``. ``options``: ``preset, deep, steps, lr, batch_size, fill, avoid, amp, seed,
    resume, launcher, cfg_options``; None leaves the config's value."""
    cfg = load_config(config, options.get("cfg_options"))
    unlearn = dict(cfg.get("unlearn") or {"type": "DELETE"})
    if options.get("preset") is not None:
        unlearn = {name: value for name, value in unlearn.items() if name not in RECIPE}
        unlearn |= copy.deepcopy(PRESETS[options["preset"]])
    if classes:
        unlearn["classes"] = list(classes)
    if options.get("deep"):
        if unlearn["type"] not in ("DELETE", DEEP_METHOD):
            raise RequestError(
                f"--deep is type='{DEEP_METHOD}', and the config's is '{unlearn['type']}'; leave one of them out"
            )
        unlearn["type"] = DEEP_METHOD
    if options.get("lr") is not None:
        unlearn["optimizer"] = {**unlearn.get("optimizer", {"type": "AdamW"}), "lr": options["lr"]}
    for name in ("steps", "batch_size", "fill", "avoid"):
        if options.get(name) not in (None, [], ()):
            unlearn[name] = options[name]
    cfg.unlearn = unlearn
    cfg.load_from = checkpoint
    set_run(cfg, {**options, "work_dir": work_dir})
    return cfg


def dry_run(cfg: Config, console: Console) -> None:
    """Check everything and say what a run would do; nothing is trained, nothing is written."""
    checked = check_request(cfg)
    notes = check_data(checked)
    method, recipe = checked.method, checked.recipe
    teacher = checked.model if method.request.select == "teacher" else None
    task = task_for(checked.model)
    found = task.find_forget_set(checked.train, checked.ids, teacher, checked.cfg)
    if not found:
        raise RequestError(
            f"the forget set is empty: none of {len(checked.train)} training images shows a class that is to be forgotten"
        )
    batch = recipe.batch_size or checked.cfg.train_dataloader.get("batch_size")
    for line in (
        f"Would forget: {', '.join(checked.names[i] for i in checked.ids)}",
        f"Forget set: {len(found)} of {len(checked.train)} images ({method.request.select})",
        f"Loss swapped in: {', '.join(point.name for point in task.loss_points(checked.model))}",
        f"Recipe: {recipe.steps} steps, batch {batch} a process, {dict(recipe.optimizer)}",
        *notes,
    ):
        console.print(line, markup=False)


def run(cfg: Config, console: Console) -> dict[str, Any]:
    """Unlearn and evaluate; writes erased.pth, results.json and before_after.png into the config's work dir.

    Everything that can be refused is refused, and every evaluation tried on one image, before anything is written.

    Returns:
        What results.json holds, and the command's ``exit_status``.
    """
    checked = check_request(cfg)
    for note in check_data(checked):
        console.print(note, markup=False)
    cfg, names, ids, expected = checked.cfg, checked.names, checked.ids, checked.expected
    del checked  # the run makes its own model
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    evaluation = Evaluation(METRICS, ids, names, expected=expected)
    found, shown = evaluation.attempt("rows", partial(_measure, runner)) or ({}, [])
    for name, counts in found.items():
        evaluation.add(name, {"test": counts})
    confusions = {name: counts.confusion for name, counts in found.items()}
    split = cfg.test_dataloader.dataset  # its type and folders tell runs apart that were measured on other images
    dataset, title = runner.test_dataloader.dataset, f"Forgetting {', '.join(names[i] for i in ids)}: percent"
    if found:
        test = found["original"]
        title += f", {test.samples} test images, {test.showing} of them with {', '.join(names[i] for i in ids)}"
    results = collect(
        runner,
        evaluation,
        data={"test": f"{len(dataset)} images of the config's test split ({type(dataset).__name__})"},
        measured_on=f"{split.get('type')} {split.get('data_root', '')} {dict(split.get('data_prefix') or {})}",
        predicted_as=confusions["erased"][list(ids)].sum(0) if found else None,
        details={
            "per_class": {name: per_class(confusion, names) for name, confusion in confusions.items()},
            "test_set": _counts(found["original"], ids) if found else None,
        },
    )

    def draw_rows(path: Path) -> None:
        if shown:
            draw(path, shown, names, dataset.metainfo["palette"], ids)

    picture, attacked = ("before_after.png", draw_rows), partial(rows_of_run, runner, cfg)
    results = report(runner, evaluation, results, console, title=title, picture=picture, attacked=attacked)
    refuse_unmeasured(runner, evaluation)
    return results


def _counts(test: LocationCounts, ids: Sequence[int]) -> dict[str, int]:
    forgotten, pixels = int(test.confusion[list(ids)].sum()), int(test.confusion.sum())
    return {
        "images": test.samples,
        "images_with_forgotten": test.showing,
        "pixels": pixels,
        "forgotten_pixels": forgotten,
        "other_pixels": pixels - forgotten,
    }


def _measure(runner: UnlearnRunner) -> tuple[dict[str, LocationCounts], list[Any]]:
    """What each row is measured from, and a few images with both models' predictions."""
    model = runner.unwrapped_model
    device = next(model.parameters()).device
    erased = {name: value.clone() for name, value in model.state_dict().items()}
    original = {k: v.to(device) for k, v in state_dict_of(load_file(runner.teacher_path)).items()}
    name, layer = runner.task.classifier(model)
    rows: dict[str, LocationCounts] = {}
    seen: dict[str, list[Any]] = {}

    def test(row: str, state: dict[str, Any]) -> list[LocationCounts]:
        load_state(model, state, row)
        runner.test()
        return runner.test_loop.evaluator.metrics[0].found

    rows["original"], rows["logit_cut"], _ = test("original", original)
    first, dataset = copy.deepcopy(layer), runner.test_dataloader.dataset
    chosen = choose_images(dataset, runner.forget_ids)

    def look(row: str) -> None:
        if get_rank() == 0:
            seen[row] = [shown_by(predict(model, dataset, index)) for index in chosen]

    look("original")
    try:
        with second_head(model, layer, first):
            rows["erased"], _, rows["erased_with_original_head"] = test("erased", erased)
    except HeadIsNotLastError:
        with_head = {key: original[key] if key.startswith(f"{name}.") else value for key, value in erased.items()}
        rows["erased_with_original_head"] = test("erased_with_original_head", with_head)[0]
        rows["erased"] = test("erased", erased)[0]
    rows = {row: rows[row] for row in ROWS if row in rows}
    look("erased")
    pairs = zip(seen.get("original", ()), seen.get("erased", ()), strict=True)
    return rows, [(*before, after[1]) for before, after in pairs]
