"""Models that cannot be unlearned and wrong requests are errors that say the fix."""

from functools import partial

import pytest
import torch
from mmseg.models.decode_heads import FCNHead, PointHead
from torch import nn

from delete_mmseg.heads import check_heads
from delete_mmseg.task import SegmentationTask
from delete_tasks.errors import CheckpointMismatchError, RequestError, UnsupportedModelError

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message on machines without a GPU")
SAVES_BEST = dict(type="CheckpointHook", save_best="mIoU")  # which would keep the original


@pytest.mark.parametrize(("options", "message"), [
    (dict(classes=["cra"]), "'cra'.*'car'.*road, sidewalk"),  # by the runner alone, see test_checks for the command
    (dict(classes=["train"]), "forget set is empty"), (dict(masking="each"), "masking='each' .*'all', 'own'"),
    (dict(masking="own", select="teacher"), "labels"), (dict(optimizer=dict(lr=1.0)), "unlearn.optimizer"),
    (dict(epochs=3), "unlearn: epochs.*classes"), (dict(type="SCRUB"), "SCRUB .*retain set"),
    (dict(type="DeepDELETE", public="some"), "public"),
    (dict(type="RandomLabel", select="teacher"), "RandomLabel .*labels"),
    (dict(type="NegativeGradient", select="teacher"), "NegativeGradient .*labels"),
    (dict(parts={"load_from": None}), "load_from"), (dict(parts={"unlearn": None}), "unlearn"),
    (dict(parts={"default_hooks.checkpoint": SAVES_BEST}), "save_best='mIoU'"),
    (dict(parts={"train_dataloader.dataset.metainfo": dict(classes=("road", "car"))}), "2 classes .*19"),
    pytest.param(dict(parts={"optim_wrapper.type": "AmpOptimWrapper"}), "GPU", marks=NO_GPU),
])  # fmt: skip
def test_bad_requests(options, message, train, tmp_path):
    with pytest.raises(RequestError, match=message):
        train("cgnet", **{"steps": 1, **options})
    assert not (tmp_path / "run" / "erased.pth").exists()


@pytest.mark.parametrize("part", ["unlearn.teacher", "load_from"])
def test_weights_that_do_not_fit_are_refused(part, make_config, train, tmp_path):
    """Another teacher than the original, and an original that lacks a tensor."""
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    checkpoint = torch.load(cfg.load_from, weights_only=True)
    bias = checkpoint["state_dict"].pop("decode_head.conv_seg.bias")
    if part == "unlearn.teacher":
        checkpoint["state_dict"]["decode_head.conv_seg.bias"] = bias + 1
    torch.save(checkpoint, tmp_path / "other.pth")
    cfg.merge_from_dict({part: str(tmp_path / "other.pth")})
    with pytest.raises(CheckpointMismatchError, match=r"decode_head.conv_seg.bias"):
        train(cfg)


class Mask2FormerHead(nn.Module):
    pass


def point_head():
    head = PointHead.__new__(PointHead)  # its constructor needs compiled operators
    nn.Module.__init__(head)
    return nn.ModuleList([FCNHead(in_channels=8, channels=8, num_classes=4), head])


@pytest.mark.parametrize(("head", "message"), [
    (Mask2FormerHead, "decode_head .*Mask2FormerHead"), (point_head, "decode_head.1 .*PointHead"),
    (partial(FCNHead, in_channels=8, channels=8, num_classes=2, out_channels=1, threshold=0.3), "C=1"),
])  # fmt: skip
def test_heads_without_class_logits_are_refused_by_name(head, message):
    model = nn.Module()
    model.decode_head = head()
    with pytest.raises(UnsupportedModelError, match=message):
        check_heads(model)


def test_other_models_are_not_ours():
    assert not SegmentationTask().handles(nn.Linear(2, 2))
