"""Predictions of a second last layer in the same forward pass."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate

from delete_mmseg.checks import check_request
from delete_mmseg.second_head import SECOND, HeadIsNotLastError, second_head
from delete_mmseg.task import SegmentationTask


def predict(model, dataset, index):
    with torch.no_grad():
        return model.test_step(pseudo_collate([dataset[index]]))[0]


@pytest.mark.parametrize("name", ["cgnet", "fcn"])
def test_one_pass_is_as_good_as_two(name, make_config, tmp_path):
    opened = check_request(make_config(name, tmp_path / "run")).opened
    model, dataset = opened.models["original"].module, opened.samples["test"].dataset
    layer = SegmentationTask().classifier(model)[1]
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.add_(0.3 * torch.randn_like(other.weight))
        with second_head(model, layer, other):
            both = predict(model, dataset, 0)
        alone = predict(model, dataset, 0)
        layer.load_state_dict(other.state_dict())
        changed = predict(model, dataset, 0)
    assert torch.equal(both.pred_sem_seg.data, alone.pred_sem_seg.data) and SECOND not in alone
    assert torch.equal(both.get(SECOND).data, changed.pred_sem_seg.data)
    assert not torch.equal(alone.pred_sem_seg.data, changed.pred_sem_seg.data)


def test_several_windows_are_refused(make_config, tmp_path):
    opened = check_request(make_config("cgnet", tmp_path / "run")).opened
    model = opened.models["original"].module
    model.test_cfg = ConfigDict(mode="slide", crop_size=(32, 48), stride=(20, 30))
    layer = SegmentationTask().classifier(model)[1]
    with pytest.raises(HeadIsNotLastError), second_head(model, layer, copy.deepcopy(layer)):
        predict(model, opened.samples["test"].dataset, 0)
    assert "postprocess_result" not in vars(model)
