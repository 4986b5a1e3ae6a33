"""Segmentors and images as ``delete-tasks audit`` attacks them: a sample is a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from delete_tasks.audit.samples import AuditModel, AuditSource, read_rows
from delete_tasks.checkpoint import load_file, load_state, state_dict_of
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.masking import resolve_classes
from delete_tasks.spread import evenly_spread

from .attention_samples import SPLITS, class_logits, open_segmentors, open_split, pixel_labels
from .checks import check_apart
from .files import ignored_labels

MOST_IMAGES = 100  # of a split, evenly spread
MOST_IN_RUN = 20  # in a run's own audit, to take a part of its time


def open_audit(
    paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any], classifier: Any
) -> AuditSource | None:
    """Checkpoints of the model that ``options['config']`` describes and splits of its data, see
    :meth:`delete_tasks.task.Task.open_audit`; None without a config.

    Args:
        paths, data, options: As there.
        classifier: Of a model, its last layer.

    Raises:
        RequestError: No class is named; data that are no split of the config; or test images among the others.
    """
    opened = open_segmentors(paths, options)
    if opened is None:
        return None
    wanted = list(options.get("classes") or ())
    if not wanted:
        raise RequestError(
            "--classes is not given: every training image shows several classes, so name the forgotten ones"
        )
    ids = resolve_classes(wanted, opened.class_names)
    cfg, test = opened.context
    opened_splits: dict[str, Any] = {}
    for word in data.values():
        if word not in SPLITS:
            raise RequestError(f"'{word}' is no split of the config; give {', '.join(SPLITS)}")
        if word not in opened_splits:
            opened_splits[word] = open_split(cfg, test, word)
    datasets = {split: opened_splits[word] for split, word in data.items()}
    for word in sorted({word for split, word in data.items() if split != "test"}) if "test" in data else ():
        check_apart(datasets["test"], opened_splits[word], word)
    chosen = {split: evenly_spread(len(dataset), MOST_IMAGES).tolist() for split, dataset in datasets.items()}
    models = {
        name: AuditModel(
            model,
            classifier(model),
            _forward,
            {split: partial(batches, model, opened.context, datasets[split], chosen[split]) for split in data},
        )
        for name, model in opened.models.items()
    }
    counts = {split: len(indices) for split, indices in chosen.items()}
    return AuditSource(models, opened.class_names, ids, counts, "pixels, each counted as independent of the others")


def rows_of_run(runner: Any, cfg: Config) -> dict[str, dict[str, Predictions]]:
    """Pixels of some training and test images, as the original and the erased model of a finished run see them.

    Args:
        runner: After training, see :class:`delete_tasks.runner.UnlearnRunner`.
        cfg: The run's config, whose splits these are. Where its training images have no labels, test images are all there is.
    """
    model, test = runner.unwrapped_model, runner.test_dataloader.dataset
    erased = {name: value.clone() for name, value in model.state_dict().items()}
    device, layer = next(model.parameters()).device, runner.task.classifier(model)[1]
    original = {name: value.to(device) for name, value in state_dict_of(load_file(runner.teacher_path)).items()}
    found: dict[str, dict[str, Predictions]] = {"original": {}, "erased": {}}
    model.eval()
    for split in ("train", "test"):
        dataset = open_split(cfg, test, split)
        chosen = evenly_spread(len(dataset), MOST_IN_RUN).tolist()
        source = AuditModel(model, layer, _forward, {split: partial(batches, model, (cfg, test), dataset, chosen)})
        try:
            for row, state in (("original", original), ("erased", erased)):
                load_state(model, state, row)
                found[row][split] = read_rows(source, split, len(chosen), (), f"{row.capitalize()}, pixels, {split}")
        except (RequestError, OSError):
            if split == "test":
                raise
        finally:
            load_state(model, erased, "erased")
    return found


def _forward(model: nn.Module, inputs: Tensor) -> Tensor:
    return class_logits(model, inputs)


def batches(model: Any, context: Any, dataset: Any, chosen: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images ``(1, 3, H, W)`` as the network takes them, and labels ``(1, H, W)``; -1 where there is none."""
    void = torch.tensor(ignored_labels(*context))
    for index in chosen:
        data = dataset[index]
        with torch.no_grad():
            inputs = model.data_preprocessor(pseudo_collate([data]), False)["inputs"].cpu()
        found = pixel_labels(data, tuple(inputs.shape[-2:]))
        if found is None:
            raise RequestError(
                "the images have no annotations, and an audit asks whether pixels of a class are still read"
            )
        labels = torch.from_numpy(found)
        labels[torch.isin(labels, void)] = -1
        yield inputs, labels[None]
