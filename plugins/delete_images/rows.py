"""Rows of the table: original, logit cut-off, head alone, erased, erased under the original's head, retrained; and the frontier:
what the weights a share of the way back from erased to original keep and show."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from rich.console import Console
from torch import Tensor, nn

from delete_tasks.display.table import Table
from delete_tasks.errors import require
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.functional import accuracy
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.predictions import Data, head_is_last, head_rows, through_head
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.fileio.compute import choose_device
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.losses import masked_kl_div
from delete_tasks.losses.masks import class_mask
from delete_tasks.methods.head_only import HeadOnly
from delete_tasks.model.head import match_scale, scale_rows
from delete_tasks.model.teacher import step_back
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .data.opening import FORGET_SET, ImageData, find_copies, open_data
from .metrics import METRICS, SHOTS, compare_others, damage
from .models.model_file import ModelSpec, load_model, spec_to_json
from .opened import MOST_FORGOTTEN, Networks, check_classes, located, make_opened, opened_model, predict_images, some_of
from .run_config import request_of

HEAD_IMAGES, HEAD_STEPS, HEAD_BATCH, HEAD_SEED = 500, 200, 128, 0  # of the head_only row
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
SHOWN = ("remain_acc", "worst_drop", "linear_probe")
LIMITS = (
    "A linear classifier on labelled images reads part of a forgotten class from the features; linear_probe in the results says "
    "how much, if it was measured.",
)


def open_run(cfg: Config, spec: ModelSpec, ids: Sequence[int], dataset: Any, args: SimpleNamespace) -> Opened:
    """Open the models and data to measure and run a few images, to find errors before the first step. ``dataset`` is the run's;
    None without a run. ``args`` are the command's options, each may be None: data strings ``test`` and ``train_data`` (of all
    classes, for accuracies on training images and for probes), and ``retrained``, the folder of a model trained without the
    classes. Refuse data or models that cannot be opened or run or do not fit, too many copies, and a missing library."""
    texts = {"test": args.test, "train": args.train_data}
    samples = {split: open_data(text, split, spec.classes) for split, text in texts.items() if text is not None}
    model: Any = MODELS.build(cfg.model)
    load_weights(model, cfg.unlearn.get("teacher") or cfg.load_from)
    teacher = model.eval() if cfg.unlearn.get("select") == "teacher" else None
    copies, left_out = keep_apart(dataset, ids, teacher, samples)
    networks: Networks = {"original": (model.network, spec)}
    if args.retrained is not None:
        networks["retrained"] = load_model(args.retrained, args.allow_import)
        check_classes(networks["retrained"][1].classes, spec.classes, ids, f"retrained model '{args.retrained}'", False)
    request, names = request_of(cfg.unlearn), spec.classes
    expected = request.resolve_expected((cfg.get("record") or {}).get("expect") or (), names)
    lists = {"expected": expected, "avoid": request.resolve_avoid(names)}
    opened = make_opened(networks, spec.classes, samples=samples, ids=ids, **lists, limits=LIMITS)
    opened.rehearse({"test": "--test", "train": "--train-data"})
    if "test" in samples:
        require("matplotlib", "images")
        opened.measured_on = located(args.test)
    if "train" in samples:
        require("sklearn", "images")
        reason = unfit_for_probes(samples["train"], samples.get("test"), ids, spec.classes)
        if reason is not None:
            opened.not_measured = dict.fromkeys(("linear_probe", "few_shot"), reason)
    opened.copies, opened.left_out = copies, left_out
    options = cfg.train_dataloader.dataset
    texts["forget"] = options.get("data")
    places = {split: None if text is None else located(text) for split, text in texts.items()}
    again = {"spec": spec_to_json(spec), "split": options.get("split", "train"), "left_out": left_out}
    opened.reopen = {"data": places, "options": {"classes": list(ids), **lists, **again, "most": MOST_FORGOTTEN}}
    if dataset is not None and dataset.retain is not None:
        opened.other_samples = {"public data" if dataset.public else "retain set": list(dataset.retain.names)}
    opened.look_at = [samples.get("test", dataset and dataset.data)]
    return opened


def keep_apart(
    dataset: Any, ids: Sequence[int], teacher: nn.Module | None, samples: dict[str, ImageData]
) -> tuple[list[Copies], list[int]]:
    """Leave copies of the forget set out of the retain set (or public data) of a run's ``dataset``, and of what it reads out of
    the test ``samples``, in place; return them and the indices left out. ``teacher``: the original, if its predictions select."""
    used, copies = dict[str, ImageData](), list[Copies]()
    if dataset is not None:
        selected = dataset.find_forget_set(ids, None if teacher is None else teacher.to(choose_device()), None)
        used[FORGET_SET] = dataset.data.subset(selected)
    if dataset is not None and dataset.retain is not None:
        among = "--public" if dataset.public else "--retain"
        kept, copies = find_copies(dataset.retain, among, used, f"give {among} other images, or leave it out")
        used[among] = dataset.retain = dataset.retain.subset(kept)
    if "train" in samples:
        used["--train-data"] = samples["train"]
    if "test" not in samples:
        return copies, []
    kept, more = find_copies(samples["test"], "--test", used)
    samples["test"] = samples["test"].subset(kept)
    return [*copies, *more], np.flatnonzero(~kept).tolist()


def unfit_for_probes(train: ImageData, test: ImageData | None, ids: Sequence[int], names: Sequence[str]) -> str | None:
    """Return the reason why probes cannot be fitted on these images, or None if they can."""
    if test is None:
        return "probes are fitted on --train-data and tested on --test, which is not given"
    missing = [names[i] for i in ids if not (test.labels == i).any()]
    if len(missing) == len(ids):
        return f"there are no test images of {' or '.join(missing)}"
    classes, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    if len(classes) < 2 or not np.isin(classes, list(ids)).any():
        return f"the training images must hold {' or '.join(names[i] for i in ids)} and another class"
    few = [f"{names[i]} {count}" for i, count in zip(classes, counts, strict=True) if count < SHOTS]
    return f"a prototype needs {SHOTS} training images of each class: {', '.join(few[:5])}" if few else None


def measure(runner: UnlearnRunner, spec: ModelSpec, opened: Opened, evaluation: Evaluation) -> dict[str, Data]:
    """Add every row of the table to ``evaluation``, in one pass with heads on its features; return each row's predictions."""
    ids = runner.selection.forget_ids
    opened.to(opened.models["erased"].device)
    forget: Any = None if runner.train_dataloader is None else runner.train_dataloader.dataset
    images = None if forget is None else some_of(forget.dataset.data, forget.indices)
    has_train = "train" in opened.samples
    if images is not None and not has_train:
        opened.samples["train"] = images
    rows: dict[str, Data] = dict(opened.rows())
    original = opened.models["original"]
    forgotten: Predictions = next(iter(rows["original"].values())) if images is None else rows["original"]["train"]
    if images is not None and has_train:
        few = images.subset(evenly_spread(len(images), HEAD_IMAGES))
        forgotten = predict_images(original.module, spec, few, "original, forget set")
    head: Any = copy.deepcopy(original.last_layer).cpu()
    head = head if head_is_last(forgotten, head) else None
    alone = None
    if images is not None and head is not None and forgotten.features is not None:
        alone = evaluation.attempt("head_only", partial(head_only, head, forgotten.features, ids))
    rows = head_rows(rows, head, alone)
    if images is not None and not has_train:  # probes need images of all classes
        rows = {name: {**row, "train": replace(row["train"], features=None)} for name, row in rows.items()}
    for name, row in rows.items():
        evaluation.add(name, row)
    return rows


def compare_without_labels(runner: UnlearnRunner, opened: Opened) -> dict[str, Any]:
    """Compare the original and the erased model without labels: ``kept`` and ``damaged`` of :mod:`delete_images.metrics`."""
    models: dict[str, Any] = opened.models
    retain: Any = runner.train_dataloader.dataset.dataset.retain
    beside = None if retain is None else models["original"].prepare(some_of(retain, range(len(retain))))
    kept = compare_others(runner, models["original"].module, models["erased"].module, beside)
    return {"kept": kept, "damaged": damage(kept, runner.recipe.optimizer)}


def head_only(head: nn.Module, features: Tensor, ids: Sequence[int], rescale: bool = True) -> nn.Module:
    """Unlearn the original's head alone, by one fixed recipe, so that the row compares runs: whatever the run's options, up to
    :data:`HEAD_IMAGES` images of the forget set, evenly spaced, as they are, :data:`HEAD_STEPS` steps of AdamW at HeadOnly's rate
    with a cosine schedule, all forgotten classes masked, temperatures 1, and one seed. ``head`` is the original's last layer,
    which is copied; ``features`` are those of the forget set, ``(N, d)``; ``rescale`` matches the scale of the logits to the
    original's. The class weights are not replaced, so that the table shows what was learned."""
    features = features[evenly_spread(len(features), HEAD_IMAGES)]
    student = copy.deepcopy(head).cpu().train().requires_grad_(True)
    with torch.no_grad():
        teacher = student(features)
    mask = class_mask(ids, teacher.shape[1], 2)
    optimizer = torch.optim.AdamW(student.parameters(), lr=HeadOnly.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, HEAD_STEPS)
    epochs = range(HEAD_STEPS * HEAD_BATCH // len(features) + 1)
    # In the order of a run, see delete_tasks.runner.forget_set.ForgetSet.
    order = np.concatenate([np.random.default_rng((HEAD_SEED, epoch)).permutation(len(features)) for epoch in epochs])
    for batch in torch.from_numpy(order).split(HEAD_BATCH)[:HEAD_STEPS]:
        optimizer.zero_grad()
        masked_kl_div(student(features[batch]), teacher[batch], mask).backward()
        optimizer.step()
        schedule.step()
    if rescale:
        remaining = [i for i in range(teacher.shape[1]) if i not in ids]
        with torch.no_grad():
            logits = student.eval()(features)
        factor = match_scale(logits[:, remaining], teacher[:, remaining], teacher.softmax(1)[:, remaining].sum(1))
        if factor is not None:
            scale_rows(student, factor)
    return student.eval()


def frontier_of(opened: Opened, spec: ModelSpec, ids: Sequence[int], rows: Mapping[str, Data]) -> list[dict[str, Any]]:
    """Measure the models between 'erased' and 'original' of ``opened``, whose predictions ``rows`` hold, each with the erased
    model's class weights of the forgotten classes, as ``unlearn.step_back`` makes them. Return by share: ``share``; figures of
    :data:`SHOWN`; and ``original_head``, percent of the classes' test images that the original's last layer still finds."""
    metrics = [metric for metric in METRICS if metric.name in SHOWN]
    evaluation = Evaluation(metrics, ids, spec.classes, opened.not_measured)
    evaluation.add("original", rows["original"])
    head, frontier = copy.deepcopy(opened.models["original"].last_layer).cpu(), []
    for share in SHARES:
        data = rows["erased"] if share == 0 else _between(opened, spec, ids, share)
        evaluation.add(str(share), data)
        read = through_head(data["test"], head)
        left = None if read is None else accuracy(read.counts, ids)[0]
        figures = {name: figure.value for name, figure in evaluation.rows[str(share)].items()}
        frontier.append({"share": share, **figures, "original_head": left})
    return frontier


@torch.no_grad()
def _between(opened: Opened, spec: ModelSpec, ids: Sequence[int], share: float) -> Data:
    """Predict with the model a ``share`` of the way back."""
    original, erased = opened.models["original"], opened.models["erased"]
    model = opened_model(copy.deepcopy(erased.module), spec)
    step_back(model.module, original.module, share)
    for name, tensor in model.last_layer.named_parameters():
        tensor[list(ids)] = erased.last_layer.get_parameter(name)[list(ids)]
    row = f"{share:.0%} back"
    return Opened({row: model}, spec.classes, opened.samples, ids).rows()[row]


def show_frontier(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print the figures of :func:`frontier_of`."""
    columns = ["others", "worst drop", "original head", "linear probe"]
    table = Table(columns, "way back", "Weights part of the way back to the original's (unlearn.step_back), in percent")
    for row in rows:
        values = [row[name] for name in ("remain_acc", "worst_drop", "original_head", "linear_probe")]
        table.add(f"{row['share']:.0%}", [None if value is None else f"{value:.2f}" for value in values])
    table.show(console)
