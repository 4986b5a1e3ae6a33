"""A pixel probe: what a 1x1 convolution, a small network or neighbours in a model's features still tell of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from delete_tasks.audit.attacks.probes import fit_neighbours
from delete_tasks.audit.probes import as_linear_map, fit_hidden_probe, fit_linear_probe
from delete_tasks.display.terminal import track
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.functional import confusion_matrix, intersection_over_union
from delete_tasks.model.features import FeatureTap

from .task import SegmentationTask


def probe_ious(
    model: nn.Module,
    train: Any,
    test: Any,
    names: Sequence[str],
    pixels: int = 300,
    seed: int = 0,
    hidden: int = 0,
    neighbours: bool = False,
    ignored: Sequence[int] = (255,),
) -> dict[str, float]:
    """IoU in percent of each class as a probe reads it from the features before the model's last layer.

    The probe is fitted on ``pixels`` random labelled places of each training image and scored over every labelled
    pixel of the test images, its logits resized bilinearly as the model's own are.

    Args:
        model: A segmentor in eval mode.
        train: Dataset with the test pipeline over training images: what someone who probes would have.
        test: Dataset with the test pipeline over test images.
        names: The class names, C of them.
        pixels: Places drawn from each training image.
        seed: Of the draw.
        hidden: 0: the probe is linear. Else a perceptron with so many hidden units, whose log-probabilities are resized.
        neighbours: In place of a trained probe the vote of the nearest drawn places, by angle; shares of votes are resized.
        ignored: Labels that do not count, see :func:`delete_mmseg.files.ignored_labels`.

    Raises:
        RequestError: Fewer than three classes are labelled in the training images.
    """
    generator = np.random.default_rng(seed)
    _, classifier = SegmentationTask().classifier(model)
    features, labels, void = [], [], torch.tensor(list(ignored))
    for index in track(range(len(train)), len(train), "Probe: training features"):
        maps, label = _features(model, classifier, train[index])
        small = F.interpolate(label[None, None].float(), size=maps.shape[1:], mode="nearest-exact").long().flatten()
        known = torch.nonzero(~torch.isin(small, void)).flatten().numpy()
        chosen = torch.from_numpy(generator.choice(known, min(pixels, known.size), replace=False))
        features.append(maps.flatten(1)[:, chosen].T.numpy())
        labels.append(small[chosen].numpy())
    x, y = np.concatenate(features), np.concatenate(labels)
    found = np.unique(y)
    if found.size < 3:
        raise RequestError(
            f"a probe over {found.size} class(es) is not multinomial; give images that show at least three"
        )
    if neighbours:
        read = _shares(fit_neighbours(x, y))
    else:
        read = _perceptron(fit_hidden_probe(x, y, hidden)) if hidden else _linear(fit_linear_probe(x, y))
    confusion = torch.zeros((len(names), len(names)), dtype=torch.int64)
    for index in track(range(len(test)), len(test), "Probe: test images"):
        maps, label = _features(model, classifier, test[index])
        logits = F.interpolate(read(maps)[None], size=label.shape, mode="bilinear", align_corners=False)[0]
        predicted = torch.from_numpy(found)[logits.argmax(0)]
        counts = ~torch.isin(label, void)
        confusion += confusion_matrix(label[counts].long(), predicted[counts], len(names))
    return {name: round(float(value), 2) for name, value in zip(names, intersection_over_union(confusion), strict=True)}


def _linear(probe: Any) -> Callable[[Tensor], Tensor]:
    weight, bias = (torch.from_numpy(part) for part in as_linear_map(probe))
    return lambda maps: torch.einsum("kd,dhw->khw", weight, maps) + bias[:, None, None]


def _shares(probe: Any) -> Callable[[Tensor], Tensor]:
    def read(maps: Tensor) -> Tensor:
        told = probe.predict_proba(maps.flatten(1).T.numpy())
        return torch.from_numpy(told).float().T.reshape(-1, *maps.shape[1:])

    return read


def _perceptron(probe: Any) -> Callable[[Tensor], Tensor]:
    shares = _shares(probe)
    return lambda maps: (shares(maps) + 1e-12).log()


def _features(model: Any, classifier: nn.Module, sample: Any) -> tuple[Tensor, Tensor]:
    """Features ``(d, h, w)`` before the last layer and labels ``(H, W)`` of one sample, on the CPU."""
    with FeatureTap(classifier) as tap, torch.no_grad():
        model.test_step(pseudo_collate([sample]))
    label = sample["data_samples"].gt_sem_seg.data.squeeze(0)
    if tap.features is None:
        raise RequestError("the model's last layer was not run; the probe has no features to read")
    return tap.features[0].float().cpu(), label.cpu()
