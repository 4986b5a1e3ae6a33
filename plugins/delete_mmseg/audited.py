"""Segmentors and images as ``delete-tasks audit`` attacks them: a sample is a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from delete_tasks.audit.samples import AuditModel, AuditSource
from delete_tasks.errors import RequestError
from delete_tasks.masking import resolve_classes

from .attention_samples import SPLITS, class_logits, open_segmentors, open_split, pixel_labels
from .files import ignored_labels

MOST_IMAGES = 100  # of a split, evenly spread


def open_audit(
    paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any], classifier: Any
) -> AuditSource | None:
    """Checkpoints of the model that ``options['config']`` describes and splits of its data, see
    :meth:`delete_tasks.task.Task.open_audit`; None without a config.

    Args:
        paths, data, options: As there.
        classifier: Of a model, its last layer.

    Raises:
        RequestError: No class is named; or data that are no split of the config.
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
    datasets, chosen = {}, {}
    for split, word in data.items():
        if word not in SPLITS:
            raise RequestError(f"'{word}' is no split of the config; give {', '.join(SPLITS)}")
        datasets[split] = open_split(cfg, test, word)
        count = len(datasets[split])
        chosen[split] = np.linspace(0, count, min(MOST_IMAGES, count), endpoint=False).astype(int).tolist()
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
