"""The rows of the table: original, logit cut-off, head alone, erased, erased under the original's head, retrained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils.data import TensorDataset

from delete_tasks.checkpoint import load_weights
from delete_tasks.errors import RequestError, require
from delete_tasks.runner import UnlearnRunner

from .architectures import classifier_of
from .data import ImageData, open_data
from .erase import erase
from .evaluate import Answers, answers, by_name, confusions, cut, head_is_last, probes, row, through_head
from .kept import calibration
from .model_file import ModelSpec, load_model
from .runs import RATES

ROWS = ("original", "logit_cut", "head_only", "erased", "erased_with_original_head", "retrained")
# Images of the forget set on whose features the head_only row is made, and its steps.
HEAD_IMAGES, HEAD_STEPS = 2000, 200
SHOTS = 5
TRIED = 8  # images of each evaluation that are run before the first step
Networks = Mapping[str, tuple[nn.Module, ModelSpec]]
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What is measured, each None if it is not.

    Attributes:
        test: Data string of test images.
        train: Data string of training images of all classes; for accuracies on training images, and for probes.
        retrained: Model folder of a model that never saw the forgotten classes.
        allow_import: As :func:`delete_images.model_file.load_model`, for that model.
    """

    test: str | None = None
    train: str | None = None
    retrained: str | None = None
    allow_import: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What will be measured, opened and tried.

    Attributes:
        data: 'test' and 'train' images, None where they are not given.
        networks: 'original' and perhaps 'retrained', with their descriptions.
        not_measured: Why a part will not be, or could not be measured, by part; added to while measuring.
    """

    data: Mapping[str, ImageData | None]
    networks: Networks
    not_measured: dict[str, str]

    def attempt(self, part: str, work: Callable[[], T]) -> T | None:
        """What ``work`` returns; None, with the reason kept, where it fails: the model is there, and stays."""
        try:
            return work()
        except Exception as error:
            first = str(error).strip().splitlines()
            self.not_measured[part] = f"{type(error).__name__}: {first[0] if first else 'no message'}"
            return None


def open_evaluation(cfg: Config, spec: ModelSpec, ids: Sequence[int], wanted: Wanted) -> Evaluation:
    """Open all that will be measured and run a few images of it, so that what fails fails before the first step.

    Raises:
        RequestError: Data or a model that cannot be opened or run, or classes that do not fit.
        MissingExtraError: What measures or draws is not installed.
    """
    texts = {"test": wanted.test, "train": wanted.train}
    data = {name: None if text is None else open_data(text, name, spec.classes) for name, text in texts.items()}
    model: Any = MODELS.build(cfg.model)
    load_weights(model, cfg.unlearn.get("teacher") or cfg.load_from)
    networks: dict[str, tuple[nn.Module, ModelSpec]] = {"original": (model.network, spec)}
    if wanted.retrained is not None:
        networks["retrained"] = load_model(wanted.retrained, wanted.allow_import)
        _check_classes(networks["retrained"][1].classes, spec.classes, ids, wanted.retrained)
    for split, images in data.items():
        for name, (network, own) in networks.items() if images is not None else ():
            try_out(network, own, images, f"{name} model on --{'eval' if split == 'test' else split}")  # type: ignore[arg-type]
    if data["test"] is not None:
        require("matplotlib", "images")
    not_measured = {}
    if data["train"] is not None:
        require("sklearn", "images")
        reason = why_no_probes(data["train"], data["test"], ids, spec.classes)
        if reason is not None:
            not_measured["probe"] = reason
    return Evaluation(data, networks, not_measured)


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
            answers(network, spec, images.subset(range(min(TRIED, len(images)))), f"Trying {what}")
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RequestError(f"the {what} fails: {str(error).splitlines()[0]}") from error


def why_no_probes(train: ImageData, test: ImageData | None, ids: Sequence[int], names: Sequence[str]) -> str | None:
    """Why probes cannot be fitted on these images, or None where they can."""
    if test is None:
        return "probes are fitted on --train and read --eval, which is not given"
    missing = [names[i] for i in ids if not (test.labels == i).any()]
    if len(missing) == len(ids):
        return f"the test images show no {' or '.join(missing)}"
    classes, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    if len(classes) < 2 or not np.isin(classes, list(ids)).any():
        return f"the training images show no {' or '.join(names[i] for i in ids)} beside another class"
    few = [f"{names[i]} {count}" for i, count in zip(classes, counts, strict=True) if count < SHOTS]
    return f"a prototype takes {SHOTS} training images of each class: {', '.join(few[:5])}" if few else None


def measure(
    runner: UnlearnRunner, cfg: Config, spec: ModelSpec, evaluation: Evaluation
) -> tuple[dict[str, Any], dict[str, Any], tuple[Any, Any] | None]:
    """Rows of the table, probes, and what is drawn of the confusion matrices before and after."""
    ids, names, data = runner.forget_ids, spec.classes, evaluation.data
    student: Any = runner.unwrapped_model
    device = next(student.parameters()).device
    networks = {name: (network.to(device), own) for name, (network, own) in evaluation.networks.items()}
    networks["erased"] = (student.network, spec)
    said: dict[str, dict[str, Answers]] = {}
    for split, images in data.items():
        if images is None:
            continue
        found = {name: answers(net, own, images, f"{name}, {split}") for name, (net, own) in networks.items()}
        if "retrained" in found:
            found["retrained"] = by_name(found["retrained"], networks["retrained"][1].classes, names)
        said[split] = found
    forget: Any = runner.train_dataloader.dataset
    chosen = forget.indices[:: max(1, len(forget.indices) // HEAD_IMAGES)]
    if data["train"] is None:
        # Training images of the forgotten classes are there in any case.
        images = forget.dataset.data.subset(chosen)
        said["train"] = {
            name: answers(net, own, images, f"{name}, forget set") for name, (net, own) in networks.items()
        }
        if "retrained" in networks:
            said["train"]["retrained"] = by_name(said["train"]["retrained"], networks["retrained"][1].classes, names)
        forgotten = said["train"]["original"]
    else:
        images = forget.dataset.data.subset(chosen[:HEAD_IMAGES])
        forgotten = answers(*networks["original"], images, "original, forget set")
    probe: dict[str, Any] = dict.fromkeys(networks)
    if data["train"] is not None and "probe" not in evaluation.not_measured:
        for name in networks:
            pair = said["train"][name], said["test"][name]
            probe[name] = evaluation.attempt("probe", partial(probes, *pair, ids, SHOTS))
    evaluation.attempt("head_only", partial(_add_heads, said, forgotten, networks, runner, cfg, ids, names))
    rows = {}
    for name in ROWS:
        train, test = (said.get(split, {}).get(name) for split in ("train", "test"))
        rows[name] = row(train, test, said.get("test", {}).get("original"), names, ids)
        rows[name] |= {"nll": None, "ece": None} if test is None else calibration(test.logits, test.labels, ids)
    pictures = None
    if "test" in said:
        pictures = confusions(said["test"]["original"], said["test"]["erased"], ids)
    return rows, probe, pictures


def nothing_measured(names: Sequence[str], ids: Sequence[int]) -> dict[str, Any]:
    """Rows of a table where measuring failed."""
    return {name: {**row(None, None, None, names, ids), "nll": None, "ece": None} for name in ROWS}


def _add_heads(
    said: dict[str, dict[str, Answers]],
    forgotten: Answers,
    networks: Networks,
    runner: UnlearnRunner,
    cfg: Config,
    ids: Sequence[int],
    names: Sequence[str],
) -> None:
    """The rows that differ from original and erased in the last layer alone, from the features already there."""
    for found in said.values():
        found["logit_cut"] = cut(found["original"], ids)
    head = classifier_of(networks["original"][0], len(names)).module.cpu()
    if not head_is_last(forgotten, head):
        return
    for found in said.values():
        under_original = through_head(found["erased"], head)
        if under_original is not None:
            found["erased_with_original_head"] = under_original
    head_only = _head_only(forgotten, head, runner, cfg, ids, names)
    for found in said.values():
        alone = None if head_only is None else through_head(found["original"], head_only)
        if alone is not None:
            found["head_only"] = alone


def _head_only(
    forgotten: Answers, head: nn.Module, runner: UnlearnRunner, cfg: Config, ids: Sequence[int], names: Sequence[str]
) -> nn.Module | None:
    """The original's head, unlearned by HeadOnly's recipe on the forget set's features, without its passes through the body.

    Its rows stay, so that the table tells what was learned.
    """
    if forgotten.features is None:
        return None
    options = {name: cfg.unlearn[name] for name in ("masking", "sharpen", "match_scale") if name in cfg.unlearn}
    samples = TensorDataset(forgotten.features[:HEAD_IMAGES], forgotten.labels[:HEAD_IMAGES])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is left, which the row shows
        return erase(
            head,
            samples,
            list(ids),
            class_names=names,
            views="none",
            lr=RATES["HeadOnly"],
            batch_size=128,
            steps=HEAD_STEPS,
            seed=runner.seed,
            keep_row=True,
            **options,
        ).model
