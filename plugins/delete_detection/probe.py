"""Features at the original's boxes, for attacks that read the forgotten classes from them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from delete_tasks.display.progress import track
from delete_tasks.evaluation.predictions import Predictions, together

from .data import Pictures
from .model import SEEN, Detector


@torch.no_grad()
def at_boxes(
    models: Mapping[str, Detector], pictures: Pictures, size: Sequence[int], title: str
) -> dict[str, Predictions]:
    """Predict at the original's boxes, by row: in each image and class the location where the original gives the highest score,
    if it is above :data:`SEEN`. The label is that class, and the features are the input of the class layer there."""
    parts: dict[str, list[Predictions]] = {row: [] for row in models}
    for row in models.keys() - {
        "original"
    }:  # at the proposals and queries of the original, which reads each image first
        models[row].follow(models["original"])
    for number in track(range(len(pictures)), len(pictures), title):
        inputs = pictures.fitted(number, size)[0][None]
        places, labels = torch.empty(0), torch.empty(0)
        for row, model in models.items():
            output, *_, inside = model.read(inputs.to(next(model.parameters()).device), features=True)
            scores, logits, features = map(_one, (model.scores(output), output[:, : model.num_classes], inside))
            if row == "original":
                best, places = scores.max(1)
                labels = (best > SEEN).nonzero()[:, 0]
            if len(labels):
                at = places[labels]
                parts[row].append(Predictions(logits[:, at].T.cpu(), features[:, at].T.cpu(), labels.cpu()))
    return {row: together(each) for row, each in parts.items() if each}


def _one(values: Tensor) -> Tensor:
    """Flatten ``(1, C, L)`` of an image, or ``(R, C, 1)`` of its proposals, to ``(C, L)``."""
    return values[0] if len(values) == 1 else values[:, :, 0].T
