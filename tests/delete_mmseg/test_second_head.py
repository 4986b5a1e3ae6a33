"""The original's last layer on the erased model's features, in the same pass: as with its weights loaded, or refused."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate

from delete_mmseg.checks import check_request
from delete_mmseg.evaluate import SECOND, HeadIsNotLastError, second_head


@pytest.fixture
def opened(request, make_config, tmp_path):
    """Model of an architecture, its last layer, a changed copy of that layer, and a function that predicts a test image."""
    checked = check_request(make_config(request.param, tmp_path / "run"))
    original, test = checked.opened.models["original"], checked.splits.test
    model, layer = original.module, original.last_layer
    other = copy.deepcopy(layer)
    other.weight.data += 0.3 * torch.randn_like(other.weight)
    return model, layer, other, lambda: model.test_step(pseudo_collate([test[0]]))[0]


@pytest.mark.parametrize("opened", ["cgnet", "fcn"], indirect=True)
@torch.no_grad()
def test_one_pass_is_as_good_as_two(opened):
    model, layer, other, predict = opened
    with second_head(model, layer, other):
        both = predict()
    own = predict()
    layer.load_state_dict(other.state_dict())
    changed = predict()
    assert torch.equal(both.pred_sem_seg.data, own.pred_sem_seg.data) and SECOND not in own
    assert torch.equal(both.get(SECOND).data, changed.pred_sem_seg.data)
    assert not torch.equal(own.pred_sem_seg.data, changed.pred_sem_seg.data)


@pytest.mark.parametrize("opened", ["cgnet"], indirect=True)
def test_several_windows_are_refused(opened):
    model, layer, other, predict = opened
    model.test_cfg = ConfigDict(mode="slide", crop_size=(32, 48), stride=(20, 30))
    with pytest.raises(HeadIsNotLastError), torch.no_grad(), second_head(model, layer, other):
        predict()
    assert "postprocess_result" not in vars(model)
