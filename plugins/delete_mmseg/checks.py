"""Checks of a segmentation request as a whole, before a Runner, its folder and its log exist."""

import contextlib
import copy
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope
from mmseg.registry import DATASETS

from delete_tasks.errors import OWN_ERRORS, MissingExtraError, RequestError, first_line, require
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.processes import process_rank, raise_lost
from delete_tasks.request.ranges import number
from delete_tasks.runner.recipe import apply_recipe, split_options
from delete_tasks.task import task_for

from .files import ignored_labels
from .labels import by_label, drop_annotations, find_copies, missing_labels
from .memory import fit
from .opened import build_segmentor, make_opened
from .picture import draw, image_and_predictions
from .splits import Splits, whole_images

# NumPy's message when mmengine puts an empty list into one array.
EMPTY_LIST = "need at least one array to concatenate"
NO_LABELS = "The {} images have no labels ({}):"
COMPARED = "The images have no labels: the figures compare predictions with the original's, right or wrong."
LIMITS = (
    "A linear classifier on labelled pixels reads part of a forgotten class from the features; delete-tasks audit --level full "
    "measures how much.",
)


@dataclass(frozen=True)
class Checked:
    """Checked request."""

    cfg: Config  # of the run
    opened: Opened  # the original in eval mode, the test data and the classes, for everything that is measured
    splits: Splits  # data of the config
    notes: Sequence[str] = ()  # sentences on labels and test data that are missing, and on the memory of large images
    evaluate: bool = True  # False if nothing is measured (``--no-evaluate``)
    has_test: bool = True  # False if there are no test data, so that images of the forget set are measured


def check_request(cfg: Config, trains: bool = True) -> Checked:
    """Build what a run needs without a Runner. Refuse a config with a part that is missing or cannot be built, unknown classes,
    no data, classes or a checkpoint that do not fit, and a model without logits for each pixel. ``cfg`` has ``unlearn`` and
    ``load_from``, and does not change; ``trains`` is False if the erased model is there already and only has to be measured."""
    for part in ("model", "train_dataloader"):
        if not cfg.get(part):
            raise RequestError(f"the config has no {part}; give the config the model was trained with")
    cfg, notes, evaluate = copy.deepcopy(cfg), list[str](), bool((cfg.get("record") or {}).get("evaluate", True))
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    if evaluate and not cfg.get("test_dataloader"):
        used = "val_dataloader" if loader else "images of the forget set, without labels"
        notes.append(f"The config has no test_dataloader: the figures are of {used}.")
    cfg.test_dataloader = loader or {"batch_size": 1, "dataset": whole_images(cfg.train_dataloader.dataset)}
    whole = apply_recipe(cfg)
    recipe, options = split_options(whole.unlearn)
    method = HOOKS.build(dict(options))
    init_default_scope(whole.get("default_scope", "mmseg"))
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # as mmengine's launcher will
    with _clearly("the config's model cannot be built"):
        model = build_segmentor(whole, whole.load_from)
    task = task_for(model)
    train = _dataset(whole, "train_dataloader")
    if trains:
        _check_inputs(train)
    test = _dataset(whole, "test_dataloader") if evaluate else train
    names = list(task.class_names(model, train))
    ids = method.request.resolve(names)
    expected = method.request.resolve_expected((cfg.get("record") or {}).get("expect") or (), names)
    if list(task.class_names(model, test)) != names:
        raise RequestError("train_dataloader and test_dataloader name different classes; let both name the model's")
    chosen = "select" in options or method.needs_labels or not trains
    missing = None if chosen else missing_labels(train)
    if missing is not None and method.request.masking == "all":
        cfg.unlearn["select"] = "teacher"
        notes.append(f"{NO_LABELS.format('training', missing)} the original's predictions select the forget set.")
    unlabelled = missing_labels(test) if evaluate else None
    if unlabelled is not None:
        drop_annotations(test)
        notes += [f"{NO_LABELS.format('test', unlabelled)} figures compare with the original's."] if loader else []
    ignored = () if unlabelled else ignored_labels(whole, test)
    splits = Splits(whole, test, train)
    lists = {"expected": expected, "avoid": method.request.resolve_avoid(names), "ignored": ignored}
    limits = (*LIMITS, *([COMPARED] if unlabelled else []))
    opened = make_opened({"original": model}, splits, names, ids=ids, **lists, limits=limits, labelled=not unlabelled)
    # A Runner wants these beside test data; measuring does not use them.
    cfg.setdefault("test_cfg", {"type": "TestLoop"})
    cfg.setdefault("test_evaluator", [])
    batch = (recipe.batch_size or whole.train_dataloader.get("batch_size", 1)) if trains else 0
    limit = cfg.get("memory")  # GB; also a config's own
    if limit is not None:
        number("memory", limit, 0, 1e6, above=True)
    notes += fit(model, cfg, train, test, ids, batch, limit)
    return Checked(cfg, opened, splits, notes, evaluate, bool(loader))


def check_data(checked: Checked) -> list[str]:
    """Check every file of the test data, then measure one image with the original as all will be; return sentences on memory and
    missing figures. Refuse unusable files, too many test images among the training images, and what cannot be measured."""
    opened, splits = checked.opened, checked.splits
    showing: Sequence[int] = range(1)
    first = process_rank() == 0
    if not checked.evaluate:
        return [*checked.notes, "Nothing is measured but the check of the forget set (--no-evaluate)."]
    if checked.has_test:
        splits.leave_out(opened, *find_copies(splits.test, splits.train, "train", alike=first))
    if first and checked.has_test:  # one process reads the files for all
        showing = by_label(splits.test, opened.ids, checked.cfg, "test samples", "all" if opened.labelled else "alone")
    with _clearly("before and after cannot be measured with this config"):
        _rehearse(opened, splits.test, showing[0] if showing else 0)
    notes, forgotten = list(checked.notes), ", ".join(opened.names[i] for i in opened.ids)
    if opened.labelled and not showing:
        notes.append(f"No test image shows {forgotten}, so the figures of the forgotten classes are not measured")
    return notes


def _rehearse(opened: Opened, test: Any, index: int) -> None:
    """Measure the test image at ``index`` with the original: prediction, metrics and picture."""
    require("matplotlib", "segmentation")
    original = opened.models["original"]
    one = replace(opened, samples={"test": opened.samples["test"].subset([index])})
    for part, reason in one.evaluate(task_for(original.module).metrics).not_measured.items():
        raise RequestError(f"{part} cannot be measured on the test split: {reason}")
    image, predicted = image_and_predictions(original.forward.samples[0])  # type: ignore[attr-defined]
    draw([(image, predicted, predicted)], opened.names, test.metainfo["palette"], opened.ids).savefig(io.BytesIO())


def _dataset(cfg: Config, loader: str) -> Any:
    with _clearly(f"{loader}.dataset cannot be built"):
        try:
            dataset = DATASETS.build(cfg[loader].dataset)
            dataset.full_init()
        except ValueError as error:
            if str(error) != EMPTY_LIST:
                raise
            dataset = ()
    if not len(dataset):
        raise RequestError(f"{loader}.dataset is empty; check data_root, data_prefix, ann_file, img_suffix and indices")
    return dataset


def _check_inputs(train: Any) -> None:
    """Refuse a pipeline that makes no inputs of an image."""
    sample: Any = None
    with contextlib.suppress(Exception):  # a damaged file is refused later, by name
        sample = train[0]
    if isinstance(sample, dict) and "inputs" not in sample:
        raise RequestError(
            "the pipeline of train_dataloader.dataset makes no 'inputs'; begin with LoadImageFromFile, end with PackSegInputs"
        )


@contextlib.contextmanager
def _clearly(what: str) -> Iterator[None]:
    """Turn errors of any kind from parts that a config names into a RequestError."""
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
