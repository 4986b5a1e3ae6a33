"""Metrics of a segmentor, and another last layer on its features in the same pass."""

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
