"""Segmentation figures that tell forgetting from hiding: per row of the table a confusion matrix over the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS
from numpy.typing import NDArray

Confusion = NDArray[np.int64]


@METRICS.register_module()
class ForgetIoUMetric(BaseMetric):
    """Confusion matrix of the prediction and of the prediction with some logits cut off, in one pass.

    Sums are kept, and nothing of an image; so each image must come once: a sampler that repeats some to fill up the
    last batch of each process (``round_up``) would count them twice.

    Args:
        classes: Number of classes C.
        forget_ids: Classes whose logits are cut off for the second matrix.
        ignore_index: Labels of pixels that do not count, one or several.

    Attributes:
        confusion, cut_confusion: int64 ``(C, C)``, labels x predictions, since the last :meth:`evaluate`.
        images: How many were seen, and on how many of them labels show a class of ``forget_ids``.
    """

    default_prefix = "forget"

    def __init__(
        self, classes: int, forget_ids: Sequence[int], ignore_index: int | Sequence[int] = 255, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.classes, self.forget_ids = classes, list(forget_ids)
        self.ignored = torch.tensor([ignore_index] if isinstance(ignore_index, int) else list(ignore_index))
        self.confusion: Confusion = np.zeros((classes, classes), np.int64)
        self.cut_confusion: Confusion = self.confusion.copy()
        self.images = (0, 0)
        self._sums = torch.zeros(2 * classes**2 + 2, dtype=torch.int64)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label = sample["gt_sem_seg"]["data"].squeeze().cpu()
            predicted = sample["pred_sem_seg"]["data"].squeeze()
            logits = sample["seg_logits"]["data"]
            cut = predicted.clone()
            hidden = torch.isin(predicted, torch.tensor(self.forget_ids, device=predicted.device))
            rest = logits[:, hidden]
            rest[self.forget_ids] = -torch.inf
            cut[hidden] = rest.argmax(0)
            counts = ~torch.isin(label, self.ignored)
            label = label[counts].long()
            matrices = [self._count(label, each.cpu()[counts]) for each in (predicted, cut)]
            shown = torch.isin(label, torch.tensor(self.forget_ids)).any()
            self._sums += torch.cat([*matrices, torch.tensor([1, int(shown)])])

    def compute_metrics(self, results: Any = None) -> dict[str, float]:
        """From the sums so far; ``results``, mmengine's list of an entry for each image, is not used."""
        size = self.classes**2
        for name, part in (("confusion", self._sums[:size]), ("cut_confusion", self._sums[size : 2 * size])):
            setattr(self, name, part.reshape(self.classes, self.classes).numpy().copy())
        self.images = (int(self._sums[-2]), int(self._sums[-1]))
        return {"mIoU": float(np.nanmean(iou(self.confusion)))}

    def evaluate(self, size: int) -> dict[str, float]:
        """Add up the sums of all processes, and begin anew."""
        all_reduce(self._sums)
        found = self.compute_metrics()
        self._sums.zero_()
        return {f"{self.prefix}/{name}": value for name, value in found.items()}

    def _count(self, label: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        return torch.bincount(label * self.classes + predicted.long(), minlength=self.classes**2)


def iou(confusion: Confusion) -> NDArray[np.float64]:
    """Intersection over union of each class in percent, from labels x predictions; NaN for a class that never occurs."""
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def figures(
    confusion: Confusion, names: Sequence[str], forget_ids: Sequence[int], images: tuple[int, int] | None = None
) -> dict[str, Any]:
    """One row of the table, in percent; None where the test split cannot tell.

    ``forget_iou`` is the mean IoU of the forgotten classes, ``others_miou`` that of the other classes over pixels
    that are not of a forgotten class, ``miou`` the usual one of all classes over all pixels. ``counts`` says on how much
    they rest: labelled ``pixels``, those of ``forgotten`` classes and of the ``others``, ``images`` and those that show a
    forgotten class (``images_with_forgotten``).

    Args:
        confusion: Pixels, labels x predictions.
        names: The class names.
        forget_ids: The forgotten classes.
        images: :attr:`ForgetIoUMetric.images`.
    """
    forgotten, pixels = int(confusion[list(forget_ids)].sum()), int(confusion.sum())
    seen, showing = images or (None, None)
    everywhere = iou(confusion)
    # Where no label shows a class, what is predicted of it gives an IoU of 0, which would pass for forgotten.
    shown = [i for i in forget_ids if confusion[i].any()]
    elsewhere = confusion.copy()
    elsewhere[list(forget_ids)] = 0
    others = [i for i in range(len(names)) if i not in forget_ids]
    return {
        "forget_iou": _mean(everywhere[shown]),
        "others_miou": _mean(iou(elsewhere)[others]),
        "miou": _mean(everywhere),
        "per_class": {name: _mean(value) for name, value in zip(names, everywhere[:, None], strict=True)},
        "counts": {
            "images": seen,
            "images_with_forgotten": showing,
            "pixels": pixels,
            "forgotten_pixels": forgotten,
            "other_pixels": pixels - forgotten,
        },
    }


def became(confusion: Confusion, names: Sequence[str], forget_ids: Sequence[int]) -> dict[str, float]:
    """Where the forgotten classes' pixels went: percent of them by prediction, most frequent first, zeros left out."""
    went = confusion[list(forget_ids)].sum(0)
    total = went.sum()
    order = [int(i) for i in np.argsort(-went, kind="stable") if went[i] > 0]
    return {names[i]: round(100 * float(went[i] / total), 2) for i in order}


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if known.size else None
