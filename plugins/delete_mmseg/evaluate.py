"""Metrics of a segmentor, and predictions of another last layer on its features in the same pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from delete_tasks.evaluation import functional as f
from delete_tasks.evaluation.metrics import location_ious, still_predicted, unexpected
from delete_tasks.model.features import FeatureTap

from .heads import main_head

SECOND = "pred_second_head"


class HeadIsNotLastError(RuntimeError):
    """Model whose logits are not the output of its last layer."""


@contextmanager
def second_head(model: Any, layer: nn.Module, other: nn.Module) -> Iterator[None]:
    """Add to each prediction of a segmentor the prediction of another last layer from the same features.

    Args:
        model: An EncoderDecoder.
        layer: Its last layer.
        other: Layer to predict with in its place.

    Raises:
        HeadIsNotLastError: While predicting the first batch, if the logits are not the output of the layer: something comes
            after it, or an image is predicted in several windows.
    """
    head, finish = main_head(model)[1], model.postprocess_result
    checked: list[bool] = []

    def both(seg_logits: Tensor, data_samples: Any) -> Any:
        metas = [sample.metainfo for sample in data_samples]
        features: Any = tap.features
        if not checked:  # on the first batch alone, so that several processes agree
            again = head.predict_by_feat(layer(features), metas)
            if again.shape != seg_logits.shape or not torch.allclose(again, seg_logits, rtol=1e-3, atol=1e-3):
                raise HeadIsNotLastError(f"the logits of {type(head).__name__} are not the output of its last layer")
            checked.append(True)
        second = finish(head.predict_by_feat(other(features), metas), [SegDataSample(metainfo=meta) for meta in metas])
        predictions = finish(seg_logits, data_samples)
        for sample, more in zip(predictions, second, strict=True):
            sample.set_data({SECOND: more.pred_sem_seg})
        return predictions

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
    """Compute the IoU of each class in percent; None if it never occurs."""
    return {name: f.mean_iou(confusion, [i]) for i, name in enumerate(names)}
