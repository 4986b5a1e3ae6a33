"""What cannot be unlearned, or was asked for wrongly, is an error that says the fix."""

import pytest
import torch
from torch import nn

from delete_mmseg.heads import check_heads
from delete_mmseg.task import SegmentationTask
from delete_tasks.errors import CheckpointMismatchError, RequestError, UnsafeCheckpointError, UnsupportedModelError
from delete_tasks.runner.unlearn_runner import UnlearnRunner


@pytest.mark.parametrize(
    ("unlearn", "message"),
    [
        (dict(classes=["cra"]), "'cra'.*'car'.*road, sidewalk"),  # by the runner alone, see test_checks for the command
        (dict(classes=["car", 13]), "car"),
        (dict(classes=["train"]), "forget set is empty"),
        (dict(masking="each"), "masking='each' .*'all', 'own'"),
        (dict(masking="own", select="teacher"), "labels"),
        (dict(steps=0), "unlearn.steps"),
        (dict(optimizer=dict(lr=1.0)), "unlearn.optimizer"),
        (dict(stop=2.0), "unlearn.stop .*2.0"),
        (dict(epochs=3), "unlearn: epochs.*classes"),
        (dict(type="DELET"), "'DELET'.*DELETE"),
    ],
)
def test_bad_requests(unlearn, message, make_config, tmp_path):
    cfg = make_config("cgnet", tmp_path / "run", **unlearn)
    with pytest.raises(RequestError, match=message):
        UnlearnRunner.from_cfg(cfg).train()
    assert not (tmp_path / "run" / "erased.pth").exists()


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message on machines without a GPU")


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("load_from", None, "load_from"),
        ("unlearn", None, "unlearn"),
        ("custom_hooks", [dict(type="EMAHook")], "EMAHook"),
        ("default_hooks.checkpoint", dict(type="CheckpointHook", save_best="mIoU"), "save_best='mIoU'"),
        ("train_dataloader.dataset.metainfo", dict(classes=("road", "car")), "2 classes .*19"),
        pytest.param("optim_wrapper.type", "AmpOptimWrapper", "GPU", marks=NO_GPU),
    ],
)
def test_configs_that_are_refused(part, value, message, make_config, tmp_path):
    """Some would keep the original."""
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    cfg.merge_from_dict({part: value})
    with pytest.raises(RequestError, match=message):
        UnlearnRunner.from_cfg(cfg).train()


def test_pickles_are_refused(make_config, tmp_path):
    class Payload:
        def __reduce__(self):
            return print, ("a checkpoint ran code",)

    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    torch.save({"state_dict": {}, "meta": Payload()}, cfg.load_from)
    with pytest.raises(UnsafeCheckpointError, match="DELETE_TASKS_ALLOW_PICKLE=1"):
        UnlearnRunner.from_cfg(cfg).train()


@pytest.mark.parametrize("other", [dict(teacher="other.pth"), dict(load_from="other.pth")])
def test_weights_that_do_not_fit_are_refused(other, make_config, tmp_path, monkeypatch):
    """Another teacher than the original, and an original that lacks a tensor."""
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    checkpoint = torch.load(cfg.load_from, weights_only=True)
    bias = checkpoint["state_dict"].pop("decode_head.conv_seg.bias")
    if "teacher" in other:
        checkpoint["state_dict"]["decode_head.conv_seg.bias"] = bias + 1
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint, "other.pth")
    (cfg.unlearn if "teacher" in other else cfg).update(other)
    with pytest.raises(CheckpointMismatchError, match=r"decode_head.conv_seg.bias"):
        UnlearnRunner.from_cfg(cfg).train()


def test_mask_and_query_heads_are_refused_by_name():
    class Mask2FormerHead(nn.Module):
        pass

    model = nn.Module()
    model.decode_head = Mask2FormerHead()
    with pytest.raises(UnsupportedModelError, match=r"decode_head .*Mask2FormerHead"):
        check_heads(model)


def test_point_and_single_output_heads_are_refused():
    from mmseg.models.decode_heads import FCNHead, PointHead

    point_head = PointHead.__new__(PointHead)  # its constructor needs compiled operators
    nn.Module.__init__(point_head)
    model = nn.Module()
    model.decode_head = nn.ModuleList([FCNHead(in_channels=8, channels=8, num_classes=4), point_head])
    with pytest.raises(UnsupportedModelError, match=r"decode_head.1 .*PointHead"):
        check_heads(model)
    model.decode_head = FCNHead(in_channels=8, channels=8, num_classes=2, out_channels=1, threshold=0.3)
    with pytest.raises(UnsupportedModelError, match=r"C=1"):
        check_heads(model)


def test_other_models_are_not_ours():
    assert not SegmentationTask().handles(nn.Linear(2, 2))
