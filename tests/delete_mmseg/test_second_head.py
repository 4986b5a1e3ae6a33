"""Predictions of a second last layer in the same forward pass."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate

from delete_mmseg.checks import check_request
from delete_mmseg.opened import OtherHead, head_is_last


@pytest.mark.parametrize("name", ["cgnet", "fcn"])
def test_one_pass_is_as_good_as_two(name, make_config, tmp_path):
    opened = check_request(make_config(name, tmp_path / "run")).opened
    original, data = opened.models["original"], pseudo_collate([opened.samples["test"][0]])
    model, step, layer, other = (
        original.module,
        original.forward,
        original.last_layer,
        copy.deepcopy(original.last_layer),
    )
    second = OtherHead(step, layer, other)
    with torch.no_grad(), second.tap:
        other.weight.add_(0.3 * torch.randn_like(other.weight))
        alone, restored = step(model, data), second(model, data)
        layer.load_state_dict(other.state_dict())
        changed = step(model, data)
    assert torch.equal(restored, changed) and not torch.equal(alone, changed)


def test_several_windows_are_noticed(make_config, tmp_path):
    opened = check_request(make_config("cgnet", tmp_path / "run")).opened
    original = opened.models["original"]
    assert head_is_last(original, opened.samples["test"])
    original.module.test_cfg = ConfigDict(mode="slide", crop_size=(32, 48), stride=(20, 30))
    assert not head_is_last(original, opened.samples["test"])
