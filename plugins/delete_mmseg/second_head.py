"""Predictions of another last layer on the features of the same forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from delete_tasks.model.features import FeatureTap

from .heads import main_head

SECOND = "pred_second_head"


class HeadIsNotLastError(RuntimeError):
    """Logits that are not the output of the model's last layer alone."""


@contextmanager
def second_head(model: Any, layer: nn.Module, other: nn.Module) -> Iterator[None]:
    """Add to each prediction of a segmentor, as :data:`SECOND`, the one of another last layer on the same features. ``layer`` is
    the last one of ``model``, an EncoderDecoder; ``other`` takes its place. HeadIsNotLastError is raised at the first batch if
    the logits are not the layer's output: another module comes after it, or an image is predicted in several windows."""
    head, finish = main_head(model)[1], model.postprocess_result
    checked: list[bool] = []

    def predict_both(seg_logits: Tensor, data_samples: Any) -> Any:
        metas = [sample.metainfo for sample in data_samples]
        features: Any = tap.features
        if not checked:  # on the first batch alone, so that several processes agree
            again = head.predict_by_feat(layer(features), metas)
            if again.shape != seg_logits.shape or not torch.allclose(again, seg_logits, rtol=1e-3, atol=1e-3):
                raise HeadIsNotLastError(f"the logits of {type(head).__name__} are not the output of its last layer")
            checked.append(True)
        second = finish(head.predict_by_feat(other(features), metas), [SegDataSample(metainfo=meta) for meta in metas])
        predictions = finish(seg_logits, data_samples)
        for sample, restored in zip(predictions, second, strict=True):
            sample.set_data({SECOND: restored.pred_sem_seg})
        return predictions

    model.postprocess_result = predict_both
    try:
        with FeatureTap(layer) as tap:
            yield
    finally:
        del model.postprocess_result
