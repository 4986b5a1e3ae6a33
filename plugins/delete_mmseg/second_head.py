"""Predictions of another last layer on the features of the same forward pass."""

from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmseg.structures import SegDataSample
from torch import nn

from delete_tasks.evaluation.reader import DataSamples, OpenedModel
from delete_tasks.model.features import FeatureTap

from .heads import main_head
from .opened import TestStep


class OtherHead(TestStep):
    """Forward pass that puts an ``other`` last layer on the features of a segmentor's last ``step``, while its ``tap`` on the
    segmentor's own last ``layer`` is open."""

    def __init__(self, step: Any, layer: nn.Module, other: nn.Module) -> None:
        self.step, self.tap, self.other = step, FeatureTap(layer), other

    def predict(self, model: Any, data: Any) -> Any:
        metas = [sample.metainfo for sample in self.step.samples]
        logits = main_head(model)[1].predict_by_feat(self.other(self.tap.features), metas)
        return model.postprocess_result(logits, [SegDataSample(metainfo=meta) for meta in metas])


def head_is_last(opened: OpenedModel, samples: DataSamples) -> bool:
    """Return True if the logits of the first of ``samples`` are the output of a segmentor's last layer alone: no other module
    comes after it, and no image is predicted in several windows."""
    step, data = opened.forward, pseudo_collate([samples[0]])
    again = OtherHead(step, opened.last_layer, opened.last_layer)
    with torch.no_grad(), again.tap:
        return torch.allclose(step(opened.module, data), again(opened.module, data), rtol=1e-3, atol=1e-3)
