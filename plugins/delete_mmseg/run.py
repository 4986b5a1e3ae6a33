"""Segmentation run: unlearn, evaluate before and after, write the erased model, figures and picture."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_reduce, get_dist_info
from rich.console import Console

from delete_tasks.audit.samples import DrawnLocations
from delete_tasks.cli.options import DEEP_METHOD
from delete_tasks.display.figure import save_figure
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import ConfusionState, Evaluation, LocationCounts, Predictions
from delete_tasks.evaluation.functional import mean_iou
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import NO_LABEL
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.fileio.workdir import WorkDir
from delete_tasks.report.earlier import earlier_run
from delete_tasks.report.finish import refuse_unmeasured, report
from delete_tasks.report.results import collect
from delete_tasks.request.config import import_modules, read_config, set_run
from delete_tasks.runner.forecast import dry_run as described
from delete_tasks.runner.unlearn_runner import UnlearnRunner
from delete_tasks.task import task_for

from .checks import Checked, check_data, check_request
from .opened import MOST_IN_RUN, attacked_rows, build_segmentor, by_pixel, check_order, reads_whole, reheaded, reopening
from .picture import LINES, draw, image_and_predictions
from .recipes import PRESETS

CAPTION = "Images, and what the original and the erased model predict for each pixel."
LABEL_FREE = ("agreement", "still_assigned")  # figures of images without labels
RECIPE = ("steps", "schedule", "optimizer", "readout")


def make_config(
    config: str | Config, checkpoint: str, classes: Sequence[str], work_dir: str, options: Mapping[str, Any]
) -> Config:
    """Make the config of a run from the command line and an MMSegmentation config, with or without ``unlearn``. Without
    ``classes``, those of the config's ``unlearn`` are taken. ``options``: ``preset, deep, steps, lr, batch_size, fill, avoid,
    into, amp, memory, seed, resume, launcher, cfg_options``; None leaves the config's value."""
    cfg = config if isinstance(config, Config) else read_config(config, options.get("cfg_options"))
    import_modules(cfg)
    unlearn = dict(cfg.get("unlearn") or {"type": "DELETE"})
    if options.get("preset") is not None:
        unlearn = {name: value for name, value in unlearn.items() if name not in RECIPE}
        unlearn |= copy.deepcopy(PRESETS[options["preset"]])
    if classes:
        unlearn["classes"] = list(classes)
    if options.get("deep"):
        if unlearn["type"] not in ("DELETE", DEEP_METHOD):
            raise RequestError(f"--deep is type='{DEEP_METHOD}', the config's is '{unlearn['type']}'; leave one out")
        unlearn["type"] = DEEP_METHOD
    if options.get("lr") is not None:
        unlearn["optimizer"] = {**unlearn.get("optimizer", {"type": "AdamW"}), "lr": options["lr"]}
    for name in ("steps", "batch_size", "fill", "avoid", "into"):
        if options.get(name) not in (None, [], ()):
            unlearn[name] = options[name]
    cfg.unlearn = unlearn
    cfg.load_from = checkpoint
    if options.get("memory") is not None:
        cfg.memory = options["memory"]
    set_run(cfg, {**options, "work_dir": work_dir})
    return cfg


def dry_run(cfg: Config, console: Console) -> None:
    """Check everything and print what a run would do; nothing is trained, nothing is written."""
    checked = check_request(cfg)
    notes = check_data(checked)
    for line in (*described(checked.cfg, checked.opened, checked.splits.train, pseudo_collate), *notes):
        console.print(line, markup=False)


def run(cfg: Config, console: Console) -> dict[str, Any]:
    """Unlearn and evaluate; write erased.pth, results.json and before_after.png into the config's work dir. Return the content of
    results.json, and the command's ``exit_status``. Refusals, and a trial of every evaluation on one image, come first."""
    checked = check_request(cfg)
    for note in check_data(checked):
        console.print(note, markup=False)
    checked.opened.to("cpu")  # the run makes its own model
    runner = UnlearnRunner.from_cfg(checked.cfg, checked.splits.train)
    runner.train()
    if checked.evaluate and not checked.has_test:
        checked.splits.take_forget_set(checked.opened, runner.selection.indices)
    return _report(runner, checked, console)


def evaluate(cfg: Config, erased: str, work: WorkDir, console: Console) -> dict[str, Any]:
    """Measure an erased model that an earlier run made of the config's ``load_from``, and write the same into the work dir."""
    checked = check_request(cfg, trains=False)
    paths = {"original": cfg.load_from, "erased": erased}
    model = build_segmentor(checked.cfg, erased)
    check_order(paths)
    runner: Any = earlier_run(task_for(model), model, checked.opened, paths, checked.cfg, work)
    for note in check_data(checked):
        console.print(note, markup=False)
    return _report(runner, checked, console)


def _report(runner: UnlearnRunner, checked: Checked, console: Console) -> dict[str, Any]:
    """Measure a finished run, and write its results."""
    cfg, opened, splits = checked.cfg, checked.opened, checked.splits
    names, ids, test = opened.names, opened.ids, splits.test
    metrics = [metric for metric in runner.task.metrics if not (opened.labelled and metric.name in LABEL_FREE)]
    evaluation = Evaluation(metrics, ids, names, None, opened.expected, opened.avoid)
    measure = partial(_rows, runner, opened)
    counts, images, tested = (evaluation.attempt("rows", measure) if checked.evaluate else None) or ({}, [], None)
    for row, count in counts.items():
        evaluation.add(row, {"test": count})
    split = cfg.test_dataloader.dataset  # its type and folders distinguish runs that were measured on other images
    blind = "" if opened.labelled else " without labels"
    of = f"the config's test split ({type(test).__name__})" if checked.has_test else "the forget set"
    title = f"Forgetting {', '.join(names[i] for i in ids)}: percent"
    test_set = None
    if counts:
        original = counts["original"]
        forgotten, pixels = int(original.confusion[list(ids)].sum()), int(original.confusion.sum())
        test_set = {"images": original.samples, "images_with_forgotten": original.showing, "pixels": pixels}
        test_set |= {"forgotten_pixels": forgotten, "other_pixels": pixels - forgotten}
        title += f", {original.samples} {'test' if checked.has_test else 'forget'} images{blind}, {original.showing} of them "
        title += f"with {', '.join(names[i] for i in ids)}{'' if opened.labelled else ' as the original predicts'}"
    per_class = {row: ious(count, names) for row, count in counts.items() if count.labelled}
    results = collect(
        runner,
        evaluation,
        data={
            "forget": os.path.dirname(os.path.abspath(splits.train.get_data_info(0)["img_path"])),
            "test": f"{len(opened.samples['test'])} images of {of}{blind}" if checked.evaluate else None,
        },
        measured_on=f"{split.get('type')} {split.get('data_root', '')} {dict(split.get('data_prefix') or {})}{blind}"
        if checked.evaluate
        else None,
        predicted_as=counts["erased"].confusion[list(ids)].sum(0) if counts else None,
        details={"per_class": per_class, "test_set": test_set},
    )
    if counts:
        opened.reopen, opened.measured_on = reopening(runner.cfg, opened), results["data"]["test"]
    else:
        opened.reopen = evaluation.not_measured.get("rows", "nothing was measured (--no-evaluate)")
    opened.look_at = ["test"] if checked.evaluate else []

    def draw_images(path: Path) -> None:
        if images:
            save_figure(draw(images, names, test.metainfo["palette"], ids), path)

    picture, read = ("before_after.png", draw_images, CAPTION), by_pixel(opened, opened.ignored)
    attacked = partial(attacked_rows, read, splits, tested) if opened.labelled else None
    results = report(runner, evaluation, results, read, console, title=title, picture=picture, attacked=attacked)
    refuse_unmeasured(runner, evaluation)
    return results


def ious(counts: LocationCounts, names: Sequence[str]) -> dict[str, float | None]:
    """Compute the IoU of each class in percent; None if it never occurs."""
    return {name: mean_iou(counts.confusion, [i]) for i, name in enumerate(names)}


def _rows(runner: UnlearnRunner, opened: Opened) -> tuple[dict[str, LocationCounts], list[Any], dict[str, Predictions]]:
    """Read the test data with both models: counts of each row, a few images with both predictions, and the audit's pixels."""
    model, original = runner.unwrapped_model.eval(), opened.models["original"]
    opened.to(next(model.parameters()).device)
    erased = opened.models["erased"] = replace(original, module=model, last_layer=runner.task.classifier(model)[1])
    with reheaded(erased, original.last_layer, opened.samples["test"]) as restored:
        counts, images, tested = _read(replace(opened, models={**opened.models, "erased_with_original_head": restored}))
    cut = {"original": counts["original"][0], "logit_cut": counts["original"][1]}
    return cut | {row: each[0] for row, each in counts.items()}, images, tested


def _read(opened: Opened) -> tuple[dict[str, list[LocationCounts]], list[Any], dict[str, Predictions]]:
    """Read this process's part of the test data, and add up the counts of all processes. Return by row the counts of the model's
    predictions, and of those without the forgotten logits; and, on the first process, images with the predictions of original and
    erased model, and pixels of some images for attacks by row, if the last features are those of the image in one piece."""
    samples, steps = opened.samples["test"], {row: model.forward for row, model in opened.models.items()}
    rank, processes = get_dist_info()
    part, ids = samples.subset(range(len(samples))[rank::processes]), torch.tensor(list(opened.ids))
    options: Any = (len(opened.names), opened.ids, opened.ignored, opened.compare, opened.labelled)
    states = {row: ConfusionState(*options) for row in opened.models}
    pixels, void = DrawnLocations(), torch.tensor(list(opened.ignored))
    most = MOST_IN_RUN if opened.labelled and not rank and reads_whole(opened.models["original"].module) else 0
    attacked = set(evenly_spread(len(part), most).tolist())
    # For the picture, the largest region in each part of the data, since neighbours in a video look alike.
    images, areas = dict[int, Any](), dict[int, float]()
    number, chosen, original = 0, False, torch.empty(0)
    for row, batch in replace(opened, samples={"test": part}).read("test"):
        (sample,) = steps[row].samples  # type: ignore[attr-defined]
        predicted = sample.pred_sem_seg.data.squeeze()
        if row == "original":
            original, place, number = predicted, number * LINES // len(part), number + 1
            area = torch.isin(predicted.cpu(), ids).double().mean().item()
            chosen = not rank and area > areas.get(place, -1.0)
            if chosen:
                areas[place], images[place] = area, image_and_predictions(sample)
        elif row == "erased" and chosen:
            images[place] = (*images[place], image_and_predictions(sample)[1])
        states[row].update(batch.logits[0], batch.labels[0] if opened.labelled else original, predicted, original)
        if number - 1 in attacked and row in ("original", "erased"):
            labels = batch.labels.masked_fill(torch.isin(batch.labels, void), NO_LABEL).long()
            pixels.add(row, replace(batch, labels=labels))
        del batch, sample  # logits, which the next model's would stand beside
    for state in states.values():
        all_reduce(state.sums)
    return {row: state.compute() for row, state in states.items()}, [*images.values()], pixels.predictions()
