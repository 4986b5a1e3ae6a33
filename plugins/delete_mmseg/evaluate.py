"""What is measured of a segmentor: confusion matrices over the test split, in one pass for a model and for its cut-off logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS as MMSEG_METRICS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from delete_tasks.audit.linear_probe import FeatureTap
from delete_tasks.evaluation import ConfusionState, LocationCounts
from delete_tasks.evaluation import functional as f
from delete_tasks.evaluation.metrics import location_ious, still_predicted, unexpected

from .heads import main_head

SECOND = "pred_second_head"


@MMSEG_METRICS.register_module()
class ForgetIoUMetric(BaseMetric):
    """Confusion matrix of the prediction and of the prediction with some logits cut off, in one pass.

    Sums are kept, and nothing of an image; so each image must come once: a sampler that repeats some to fill up the
    last batch of each process (``round_up``) would count them twice.

    Args:
        classes: Number of classes C.
        forget_ids: Classes whose logits are cut off for the second matrix.
        ignore_index: Labels of pixels that do not count, one or several.

    Attributes:
        found: The counts of both, and of what :func:`second_head` predicts where it is open, since the last :meth:`evaluate`.
    """

    default_prefix = "forget"

    def __init__(
        self, classes: int, forget_ids: Sequence[int], ignore_index: int | Sequence[int] = 255, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        ignored = [ignore_index] if isinstance(ignore_index, int) else ignore_index
        self.state = ConfusionState(classes, forget_ids, ignored, more=1)
        self.found: list[LocationCounts] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            logits, predicted = sample["seg_logits"]["data"], sample["pred_sem_seg"]["data"]
            second = [sample[SECOND]["data"].squeeze()] if SECOND in sample else []
            self.state.update(logits, sample["gt_sem_seg"]["data"].squeeze(), predicted.squeeze(), second)

    def compute_metrics(self, results: Any = None) -> dict[str, float | None]:
        """From the sums so far; ``results``, mmengine's list of an entry for each image, is not used."""
        self.found = self.state.compute()
        return {"mIoU": f.mean_iou(self.found[0].confusion)}

    def evaluate(self, size: int) -> dict[str, Any]:
        """Add up the sums of all processes, and begin anew."""
        all_reduce(self.state.sums)
        found = self.compute_metrics()
        self.state.sums.zero_()
        return {f"{self.prefix}/{name}": value for name, value in found.items()}


class HeadIsNotLastError(RuntimeError):
    """A model's logits are not just what its last layer makes of its features."""


@contextmanager
def second_head(model: Any, layer: nn.Module, other: nn.Module) -> Iterator[None]:
    """While it is open, each prediction of a segmentor carries what another last layer predicts from the same features.
    ``layer`` is the last one of ``model``, an EncoderDecoder; ``other`` stands in its place.

    Raises:
        HeadIsNotLastError: While predicting the first batch, where the logits are not just what the layer makes of its input:
            something comes after it, or an image is predicted in several windows.
    """
    head, finish = main_head(model)[1], model.postprocess_result
    checked: list[bool] = []

    def both(seg_logits: Tensor, data_samples: Any) -> Any:
        metas = [sample.metainfo for sample in data_samples]
        features: Any = tap.features
        if not checked:  # on the first batch alone, so that several processes agree
            again = head.predict_by_feat(layer(features), metas)
            if again.shape != seg_logits.shape or not torch.allclose(again, seg_logits, rtol=1e-3, atol=1e-3):
                raise HeadIsNotLastError(f"the logits of {type(head).__name__} are not what its last layer gives")
            checked.append(True)
        second = finish(head.predict_by_feat(other(features), metas), [SegDataSample(metainfo=meta) for meta in metas])
        found = finish(seg_logits, data_samples)
        for sample, more in zip(found, second, strict=True):
            sample.set_data({SECOND: more.pred_sem_seg})
        return found

    model.postprocess_result = both
    try:
        with FeatureTap(layer) as tap:
            yield
    finally:
        del model.postprocess_result


METRICS = (
    *location_ious("test", "test images"),
    still_predicted("images of the forget set"),
    unexpected("test", "test images that show them"),
)


def per_class(confusion: Tensor, names: Sequence[str]) -> dict[str, float | None]:
    """IoU of each class in percent; None where it never occurs."""
    return {name: f.mean_iou(confusion, [i]) for i, name in enumerate(names)}
