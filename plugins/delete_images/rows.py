"""The rows of the table: original, logit cut-off, head alone, erased, erased under the original's head, retrained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils.data import TensorDataset

from delete_tasks.checkpoint import load_weights
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation, Predictions, head_is_last, head_rows
from delete_tasks.evaluation.predictions import Data, by_name
from delete_tasks.hooks import HeadOnly
from delete_tasks.masking import resolve_expected
from delete_tasks.runner import UnlearnRunner

from .architectures import classifier_of
from .data import ImageData, open_data
from .erase import erase
from .evaluate import predict_images
from .metrics import SHOTS
from .model_file import ModelSpec, load_model

# Images of the forget set on whose features the head_only row is made, and its steps.
HEAD_IMAGES, HEAD_STEPS = 2000, 200
TRIED = 8  # images of each evaluation that are run before the first step
Networks = Mapping[str, tuple[nn.Module, ModelSpec]]


@dataclass(frozen=True)
class EvaluationData:
    """What will be measured, opened and tried.

    Attributes:
        data: 'test' and 'train' images, None where they are not given.
        networks: 'original' and perhaps 'retrained', with their descriptions.
        not_measured: Why a metric will not be, by its name.
        expected: The classes that may take the forgotten ones' place; none where nobody said.
    """

    data: Mapping[str, ImageData | None]
    networks: Networks
    not_measured: dict[str, str]
    expected: list[int]


def open_evaluation(cfg: Config, spec: ModelSpec, ids: Sequence[int], args: SimpleNamespace) -> EvaluationData:
    """Open all that will be measured and run a few images of it, so that what fails fails before the first step.

    Of the command line: data strings ``test`` and ``train_data`` (of all classes, for accuracies on training images, and for
    probes), and ``retrained``, the folder of a model that never saw the forgotten classes; each None if it is not measured.

    Raises:
        RequestError: Data or a model that cannot be opened or run, or classes that do not fit.
        MissingExtraError: What measures or draws is not installed.
    """
    texts = {"test": args.test, "train": args.train_data}
    data = {name: None if text is None else open_data(text, name, spec.classes) for name, text in texts.items()}
    model: Any = MODELS.build(cfg.model)
    load_weights(model, cfg.unlearn.get("teacher") or cfg.load_from)
    networks: dict[str, tuple[nn.Module, ModelSpec]] = {"original": (model.network, spec)}
    if args.retrained is not None:
        networks["retrained"] = load_model(args.retrained, args.allow_import)
        _check_classes(networks["retrained"][1].classes, spec.classes, ids, args.retrained)
    for split, images in data.items():
        for name, (network, own) in networks.items() if images is not None else ():
            try_out(network, own, images, f"{name} model on --{'test' if split == 'test' else 'train-data'}")  # type: ignore[arg-type]
    if data["test"] is not None:
        require("matplotlib", "images")
    not_measured: dict[str, str] = {}
    if data["train"] is not None:
        require("sklearn", "images")
        reason = why_no_probes(data["train"], data["test"], ids, spec.classes)
        if reason is not None:
            not_measured = dict.fromkeys(("linear_probe", "few_shot"), reason)
    expected = resolve_expected((cfg.get("record") or {}).get("expect") or (), ids, spec.classes)
    return EvaluationData(data, networks, not_measured, expected)


def _check_classes(own: Sequence[str], names: Sequence[str], ids: Sequence[int], folder: str) -> None:
    lacking = [name for i, name in enumerate(names) if i not in ids and name not in own]
    if lacking:
        raise RequestError(
            f"the retrained model '{folder}' has no class {', '.join(lacking[:5])}, which the original keeps; its classes are "
            f"{', '.join(own[:10])}{', ...' if len(own) > 10 else ''}. Give a model trained on the same classes"
        )


def try_out(network: nn.Module, spec: ModelSpec, images: ImageData, what: str) -> None:
    """Run the first few images.

    Raises:
        RequestError: It fails.
    """
    try:
        with torch.random.fork_rng():  # a data loader draws a number
            predict_images(network, spec, images.subset(range(min(TRIED, len(images)))), f"Trying {what}")
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RequestError(f"the {what} fails: {str(error).splitlines()[0]}") from error


def why_no_probes(train: ImageData, test: ImageData | None, ids: Sequence[int], names: Sequence[str]) -> str | None:
    """Why probes cannot be fitted on these images, or None where they can."""
    if test is None:
        return "probes are fitted on --train-data and read --test, which is not given"
    missing = [names[i] for i in ids if not (test.labels == i).any()]
    if len(missing) == len(ids):
        return f"the test images show no {' or '.join(missing)}"
    classes, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    if len(classes) < 2 or not np.isin(classes, list(ids)).any():
        return f"the training images show no {' or '.join(names[i] for i in ids)} beside another class"
    few = [f"{names[i]} {count}" for i, count in zip(classes, counts, strict=True) if count < SHOTS]
    return f"a prototype takes {SHOTS} training images of each class: {', '.join(few[:5])}" if few else None


def measure(
    runner: UnlearnRunner, cfg: Config, spec: ModelSpec, opened: EvaluationData, evaluation: Evaluation
) -> dict[str, Data]:
    """Add every row of the table to ``evaluation``: from a pass over the data with each network, and heads on its features.

    Returns:
        What each row was measured from.
    """
    ids, names, data = runner.selection.forget_ids, spec.classes, dict(opened.data)
    student: Any = runner.unwrapped_model
    device = next(student.parameters()).device
    networks = {name: (network.to(device), own) for name, (network, own) in opened.networks.items()}
    networks["erased"] = (student.network, spec)
    forget: Any = runner.train_dataloader.dataset
    chosen = forget.indices[:: max(1, len(forget.indices) // HEAD_IMAGES)]
    if data["train"] is None:  # training images of the forgotten classes are there in any case
        data["train"] = forget.dataset.data.subset(chosen)
    found: dict[str, dict[str, Predictions]] = {name: {} for name in networks}
    for split, images in data.items():
        for name, (network, own) in networks.items() if images is not None else ():
            given = predict_images(network, own, images, f"{name}, {split}")  # type: ignore[arg-type]
            found[name][split] = by_name(given, own.classes, names) if name == "retrained" else given
    forgotten = found["original"]["train"]
    if opened.data["train"] is not None:
        images = forget.dataset.data.subset(chosen[:HEAD_IMAGES])
        forgotten = predict_images(*networks["original"], images, "original, forget set")
    head: Any = classifier_of(networks["original"][0], len(names)).module.cpu()
    head = head if head_is_last(forgotten, head) else None
    options = {name: cfg.unlearn.get(name) for name in ("masking", "teacher_temperature", "match_scale")}
    alone = None
    if head is not None and forgotten.features is not None:
        samples = TensorDataset(forgotten.features[:HEAD_IMAGES], forgotten.labels[:HEAD_IMAGES])
        work = partial(head_only, head, samples, ids, names, runner.seed, options)
        alone = evaluation.attempt("head_only", work)
    rows = head_rows(found, ids, head, alone)
    if opened.data["train"] is None:
        rows = {name: without_features(row, "train") for name, row in rows.items()}
    for name, row in rows.items():
        evaluation.add(name, row)
    return rows


def without_features(row: Data, split: str) -> Data:
    """A row whose images of one split no probe is to be fitted on: those of the forgotten classes alone."""
    return {name: replace(given, features=None) if name == split else given for name, given in row.items()}


def head_only(
    head: nn.Module,
    samples: TensorDataset,
    ids: Sequence[int],
    names: Sequence[str],
    seed: int,
    options: Mapping[str, Any],
) -> nn.Module:
    """The original's head, unlearned by HeadOnly's recipe on the forget set's features, without its passes through the body.

    Its rows stay, so that the table tells what was learned. Samples are features ``(N, d)`` and labels ``(N,)``; ``options`` are
    the method's, as of ``erase()``, and those that are None are not given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    given |= {"lr": HeadOnly.rate, "batch_size": 128, "steps": HEAD_STEPS, "seed": seed, "keep_row": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is left, which the row shows
        return erase(head, samples, list(ids), class_names=names, views="none", **given).model
