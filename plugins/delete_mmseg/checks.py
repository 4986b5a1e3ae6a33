"""A request for a segmentation run, checked as a whole before a Runner, its folder and its log begin."""

import contextlib
import copy
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope
from mmseg.registry import DATASETS

from delete_tasks.errors import OWN_ERRORS, MissingExtraError, RequestError, first_line, require
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.processes import process_rank, raise_lost
from delete_tasks.methods.options import split_options
from delete_tasks.request.classes import resolve_expected
from delete_tasks.request.recipe import Recipe
from delete_tasks.runner.recipe import apply_recipe
from delete_tasks.task import task_for

from .evaluate import METRICS
from .files import ignored_labels
from .labels import by_label, check_apart
from .opened import build_segmentor, make_opened
from .picture import choose_images, draw
from .splits import Splits

# NumPy's words, when mmengine puts an empty list into one array.
NOTHING_TO_KEEP = "need at least one array to concatenate"
LIMITS = (
    "A linear classifier on labelled pixels reads part of a forgotten class from the features; delete-tasks audit --level full "
    "measures how much.",
)


@dataclass(frozen=True)
class Checked:
    """Checked request.

    Attributes:
        cfg: The config of the run, with this package's evaluation in it.
        recipe: How it trains.
        method: The method's hook.
        model: The original, with its weights, in eval mode.
        train: The training data, unfiltered.
        test: The data that before and after are measured on.
        names: The class names.
        ids: The classes to forget.
        opened: The original and the test data, for everything that is measured.
        splits: The data of the config.
    """

    cfg: Config
    recipe: Recipe
    method: Any
    model: Any
    train: Any
    test: Any
    names: list[str]
    ids: list[int]
    opened: Opened
    splits: Splits


def check_request(cfg: Config) -> Checked:
    """Build what a run needs without a Runner, and refuse what cannot be done.

    Args:
        cfg: With ``unlearn`` and ``load_from``; not changed.

    Raises:
        RequestError: A part of the config is missing or cannot be built, unknown classes, no data, classes that do not fit.
        CheckpointMismatchError, UnsafeCheckpointError, FileNotFoundError: The checkpoint.
        UnsupportedModelError: The model has no logits for each pixel.
    """
    for part, why in (
        ("model", "which says what the checkpoint holds"),
        ("train_dataloader", "in which the images that show a class are found"),
        ("test_dataloader", "on which before and after are measured"),
    ):
        if not cfg.get(part):
            raise RequestError(f"the config has no {part}, {why}; give the config the model was trained with")
    whole = apply_recipe(cfg)
    recipe, options = split_options(whole.unlearn)
    method = HOOKS.build(dict(options))
    init_default_scope(whole.get("default_scope", "mmseg"))
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # as mmengine's launcher will
    with _clearly("the config's model cannot be built"):
        model = build_segmentor(whole, whole.load_from)
    task = task_for(model)
    train, test = (_dataset(whole, f"{split}_dataloader") for split in ("train", "test"))
    names = list(task.class_names(model, train))
    ids = method.request.resolve(names)
    expected = resolve_expected((cfg.get("record") or {}).get("expect") or (), ids, names)
    if list(task.class_names(model, test)) != names:
        raise RequestError("train_dataloader and test_dataloader name different classes; let both name the model's")
    ignored = ignored_labels(whole, test)
    splits = Splits(whole, test, train)
    opened = make_opened({"original": model}, splits, names, ids=ids, expected=expected, ignored=ignored, limits=LIMITS)
    return Checked(_with_evaluation(cfg), recipe, method, model, train, test, names, ids, opened, splits)


def check_data(checked: Checked) -> list[str]:
    """Look at every file of the test data, then measure one image of them with the original as all will be.

    Returns:
        What the figures will lack, in words.

    Raises:
        RequestError: Files that cannot be used, named; test images among the training images; or the measuring fails.
    """
    shown: Sequence[int] = range(1)
    if process_rank() == 0:  # one process reads the files for all
        check_apart(checked.test, checked.train, "train")
        shown = by_label(checked.test, checked.ids, checked.cfg, "test samples", every_image=True)
    with _clearly("before and after cannot be measured with this config"):
        rehearse(checked)
    forgotten = ", ".join(checked.names[i] for i in checked.ids)
    return [] if shown else [f"No test image shows {forgotten}, so what is left of it cannot be measured"]


def rehearse(checked: Checked) -> None:
    """Measure one test image with the original: prediction, metric, figures and picture."""
    require("matplotlib", "segmentation")
    opened = checked.opened
    index = choose_images(checked.test, checked.ids, count=1)[0]
    trial = replace(opened, samples={"test": opened.samples["test"].subset([index])}).evaluate(METRICS)
    for part, reason in trial.not_measured.items():
        raise RequestError(f"{part} cannot be measured on the test split: {reason}")
    step: Any = opened.models["original"].forward
    picture, predicted = shown_by(step.samples[0])
    draw(io.BytesIO(), [(picture, predicted, predicted)], checked.names, checked.test.metainfo["palette"], checked.ids)


def shown_by(sample: Any) -> tuple[Any, Any]:
    """RGB image ``(H, W, 3)`` and prediction ``(H, W)`` of a sample, uint8."""
    prediction = sample.pred_sem_seg.data.squeeze().cpu().numpy().astype(np.uint8)
    return mmcv.imread(sample.metainfo["img_path"], channel_order="rgb"), prediction


def _dataset(cfg: Config, loader: str) -> Any:
    empty = f"{loader}.dataset is empty; check its data_root, data_prefix, ann_file, img_suffix and indices"
    with _clearly(f"{loader}.dataset cannot be built"):
        try:
            dataset = DATASETS.build(cfg[loader].dataset)
            dataset.full_init()
        except ValueError as error:
            if str(error) == NOTHING_TO_KEEP:
                raise RequestError(empty) from error
            raise
    if not len(dataset):
        raise RequestError(empty)
    return dataset


def _with_evaluation(cfg: Config) -> Config:
    """Add what a Runner needs beside test data to the config; measuring does not use it."""
    cfg = copy.deepcopy(cfg)
    cfg.setdefault("test_cfg", {"type": "TestLoop"})
    cfg.setdefault("test_evaluator", [])
    return cfg


@contextlib.contextmanager
def _clearly(what: str) -> Iterator[None]:
    """Turn errors of any kind from what a config names into a RequestError."""
    try:
        yield
    except (*OWN_ERRORS, MissingExtraError):
        raise
    except FileNotFoundError as error:
        if error.filename is None:  # this package's message
            raise
        raise RequestError(f"{what}: nothing at '{error.filename}'") from error
    except KeyError as error:
        raise RequestError(f"{what}: {first_line(Exception(error.args[0]) if error.args else error)}") from error
    except Exception as error:
        raise_lost(error)
        raise RequestError(f"{what}: {first_line(error)}") from error
