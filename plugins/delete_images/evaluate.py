"""Predictions of a network for images, and the part of a confusion matrix that is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_tasks.evaluation.functional import confusion_matrix
from delete_tasks.evaluation.predictions import Predictions, predict
from delete_tasks.terminal import track

from .architectures import classifier_of
from .classifier import class_outputs
from .data import ImageData
from .spec import ModelSpec
from .transforms import TransformedData, eval_transform

BATCH = 250


def predict_images(network: nn.Module, spec: ModelSpec, data: ImageData, title: str = "Evaluating") -> Predictions:
    """Run a network (on its device, in eval mode) over images as its description wants them."""
    network.eval()
    device, classes = next(network.parameters()).device, len(spec.classes)
    loader = DataLoader(TransformedData(data, eval_transform(spec)), batch_size=BATCH)

    def forward(images: Tensor) -> Tensor:
        return class_outputs(network(images.to(device)), classes)[0]

    return predict(track(loader, len(loader), title), forward, classifier_of(network, classes).module)


def confusions(
    before: Predictions, after: Predictions, ids: Sequence[int], most: int = 30
) -> tuple[list[int], Tensor, Tensor]:
    """What is drawn of the predictions before and after: all classes, or, of more than ``most``, the forgotten ones ``ids`` and
    those that their images are predicted as most often after.

    Returns:
        Ids of the classes; predictions of the images of those classes before and after, int64 ``(len(classes), C)``.
    """
    classes = list(range(after.logits.shape[1]))
    if len(classes) > most:
        forgotten, often = set(ids), torch.argsort(-predicted_as(after, ids), stable=True)[: most + len(ids)].tolist()
        others = [i for i in often if i not in forgotten]
        classes = sorted([*list(ids)[:most], *others[: max(0, most - len(ids))]])
    first, second = (confusion_matrix(*each.labelled, each.logits.shape[1], classes) for each in (before, after))
    return classes, first, second


def predicted_as(given: Predictions, ids: Sequence[int]) -> Tensor:
    """Predictions of the images of classes ``ids``, int64 ``(C,)``."""
    labels, predicted = given.labelled
    return torch.bincount(predicted[torch.isin(labels, torch.tensor(list(ids)))], minlength=given.logits.shape[1])
