"""The rows of the table: original, logit cut-off, head alone, erased, erased under the original's head, retrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils.data import TensorDataset

from delete_tasks.checkpoint import load_weights
from delete_tasks.runner import UnlearnRunner

from .architectures import classifier_of
from .data import ImageData
from .erase import erase
from .evaluate import Answers, answers, by_name, confusions, cut, head_is_last, probes, row, through_head
from .model_file import ModelSpec, load_model
from .runs import RATES

ROWS = ("original", "logit_cut", "head_only", "erased", "erased_with_original_head", "retrained")
# Images of the forget set on whose features the head_only row is made, and its steps.
HEAD_IMAGES, HEAD_STEPS = 2000, 200


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


def measure(
    runner: UnlearnRunner, cfg: Config, spec: ModelSpec, data: Mapping[str, ImageData | None], wanted: Wanted
) -> tuple[dict[str, Any], dict[str, Any], tuple[Any, Any] | None]:
    """Rows of the table, probes, and what is drawn of the confusion matrices before and after."""
    ids, names = runner.forget_ids, spec.classes
    model: Any = MODELS.build(cfg.model)
    student: Any = runner.unwrapped_model
    device = next(student.parameters()).device
    load_weights(model, runner.teacher_path)
    networks: dict[str, tuple[nn.Module, ModelSpec]] = {
        "original": (model.network.to(device), spec),
        "erased": (student.network, spec),
    }
    if wanted.retrained is not None:
        other, other_spec = load_model(wanted.retrained, wanted.allow_import)
        networks["retrained"] = (other.to(device), other_spec)
    said: dict[str, dict[str, Answers]] = {}
    for split, images in data.items():
        if images is None:
            continue
        found = {name: answers(net, own, images, f"{name}, {split}") for name, (net, own) in networks.items()}
        if "retrained" in found:
            found["retrained"] = by_name(found["retrained"], networks["retrained"][1].classes, names)
        said[split] = found
    forget = runner.train_dataloader.dataset
    chosen = forget.indices[:: max(1, len(forget.indices) // HEAD_IMAGES)]
    if data["train"] is None:
        # Training images of the forgotten classes are there in any case.
        images = forget.dataset.data.subset(chosen)
        said["train"] = {
            name: answers(net, own, images, f"{name}, forget set") for name, (net, own) in networks.items()
        }
        forgotten = said["train"]["original"]
    else:
        images = forget.dataset.data.subset(chosen[:HEAD_IMAGES])
        forgotten = answers(*networks["original"], images, "original, forget set")
    probe: dict[str, Any] = dict.fromkeys(networks)
    if "test" in said and data["train"] is not None:
        probe = {name: probes(said["train"][name], said["test"][name], ids) for name in networks}
    _add_heads(said, forgotten, networks, runner, cfg, ids, names)
    rows = {}
    for name in ROWS:
        train, test = (said.get(split, {}).get(name) for split in ("train", "test"))
        rows[name] = row(train, test, said.get("test", {}).get("original"), names, ids)
    pictures = None
    if "test" in said:
        pictures = confusions(said["test"]["original"], said["test"]["erased"], ids)
    return rows, probe, pictures


def _add_heads(
    said: dict[str, dict[str, Answers]],
    forgotten: Answers,
    networks: Mapping[str, tuple[nn.Module, ModelSpec]],
    runner: UnlearnRunner,
    cfg: Config,
    ids: Sequence[int],
    names: Sequence[str],
) -> None:
    """The rows that differ from original and erased in the last layer alone, from the features already there."""
    head = classifier_of(networks["original"][0], len(names)).module.cpu()
    last = head_is_last(forgotten, head)
    head_only = _head_only(forgotten, head, runner, cfg, ids, names) if last else None
    for found in said.values():
        found["logit_cut"] = cut(found["original"], ids)
        if not last:
            continue
        for name, source, layer in (
            ("erased_with_original_head", "erased", head),
            ("head_only", "original", head_only),
        ):
            answer = None if layer is None else through_head(found[source], layer)
            if answer is not None:
                found[name] = answer


def _head_only(
    forgotten: Answers, head: nn.Module, runner: UnlearnRunner, cfg: Config, ids: Sequence[int], names: Sequence[str]
) -> nn.Module | None:
    """The original's head, unlearned by HeadOnly's recipe on the forget set's features, without its passes through the body."""
    if forgotten.features is None:
        return None
    options = {name: cfg.unlearn[name] for name in ("masking", "sharpen") if name in cfg.unlearn}
    samples = TensorDataset(forgotten.features[:HEAD_IMAGES], forgotten.labels[:HEAD_IMAGES])
    return erase(
        head,
        samples,
        list(ids),
        class_names=names,
        lr=RATES["HeadOnly"],
        steps=HEAD_STEPS,
        seed=runner.seed,
        **options,
    ).model
