"""Predictions of a second last layer in the same forward pass."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate

from delete_mmseg.checks import check_request
from delete_mmseg.opened import reheaded


@pytest.mark.parametrize(("name", "windows"), [("cgnet", False), ("fcn", False), ("cgnet", True)])
def test_one_pass_is_as_good_as_two(name, windows, make_config, tmp_path):
    opened = check_request(make_config(name, tmp_path / "run")).opened
    original, samples = opened.models["original"], opened.samples["test"]
    if windows:
        original.module.test_cfg = ConfigDict(mode="slide", crop_size=(32, 48), stride=(20, 30))
    other, data = copy.deepcopy(original.last_layer), pseudo_collate([samples[0]])
    with torch.no_grad():
        other.weight.add_(0.3 * torch.randn_like(other.weight))
        with reheaded(original, other, samples) as second:
            assert (second.module is original.module) != windows
            alone, restored = original.run(data), second.run(data)
        original.last_layer.load_state_dict(other.state_dict())
        changed = original.run(data)
    assert torch.equal(restored, changed) and not torch.equal(alone, changed)
