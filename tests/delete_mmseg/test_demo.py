"""Short run of the demonstration, and its scenes under the Cityscapes configs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import argv, read_results, run, values
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS, MODELS

from delete_tasks import config_path


@pytest.mark.slow
def test_demo_runs_from_nothing(tmp_path):
    words = argv("-m delete_tasks segmentation demo --out", tmp_path, "--train-scenes 16 --test-scenes 8 --steps 40")
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-2000:]
    assert "OneDL" not in done.stdout and "- INFO -" not in done.stdout
    rows = values(read_results(tmp_path / "erased")["rows"])
    assert rows["original"]["miou"] >= 70, "the network that comes with the package generalises to scenes it never saw"
    assert rows["original"]["forget_iou"] > 70 and rows["logit_cut"]["forget_iou"] == 0
    assert rows["erased"]["forget_iou"] < rows["original"]["forget_iou"] / 4
    assert rows["erased"]["others_miou"] > rows["original"]["others_miou"] - 3
    assert "delete-tasks segmentation forget YOUR_CONFIG.py" in done.stdout
    assert "erased, original head" in done.stdout and "forgotten IoU" in done.stdout and "…" not in done.stdout
    assert (tmp_path / "erased" / "before_after.png").stat().st_size > 50_000


@pytest.mark.parametrize("name", ["pspnet_r50-d8", "segformer_mit-b0"])
def test_cityscapes_configs_read_the_layout_as_downloaded(name, scenes):
    cfg = Config.fromfile(str(config_path(f"segmentation/{name}_cityscapes_forget-car.py")))
    init_default_scope("mmseg")
    assert cfg.unlearn.classes == ["car"] and cfg.runner_type == "UnlearnRunner"
    for loader, expected in ((cfg.train_dataloader, 10), (cfg.test_dataloader, 4)):
        loader.dataset.data_root = str(scenes)
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == expected and dataset.metainfo["classes"][13] == "car"
        np.random.seed(0)  # of the crop: not every crop holds a road
        label = np.unique(dataset[0]["data_samples"].gt_sem_seg.data.numpy())
        assert set(label) <= {*range(19), 255} and 0 in label


@pytest.mark.long
def test_cityscapes_config_runs_end_to_end(scenes, tmp_path):
    """SegFormer's own Cityscapes config, on the scenes, from weights in a file."""
    config = config_path("segmentation/segformer_mit-b0_cityscapes_forget-car.py")
    cfg = Config.fromfile(str(config))
    init_default_scope("mmseg")
    torch.manual_seed(0)
    torch.save({"state_dict": revert_sync_batchnorm(MODELS.build(cfg.model)).state_dict()}, tmp_path / "model.pth")
    # The published sizes (crops of 1024) take minutes on a CPU; the layout and the config's other parts are what counts here.
    changes = """log_level=WARNING test_dataloader.dataset.indices=1 test_dataloader.dataset.pipeline.1.scale=(256,128)
        train_dataloader.dataset.pipeline.2.scale=(256,128) model.test_cfg.mode=whole
        train_dataloader.dataset.pipeline.3.crop_size=(128,128) model.data_preprocessor.size=(128,128)"""
    for loader in ("train_dataloader", "test_dataloader"):
        changes += f" {loader}.dataset.data_root={scenes} {loader}.num_workers=0 {loader}.persistent_workers=False"
    run("segmentation", config, "--checkpoint", tmp_path / "model.pth", "--work-dir", tmp_path / "out",
        "--steps 1 --batch-size 1 --device cpu --cfg-options", changes)  # fmt: skip
    results = read_results(tmp_path / "out")
    assert results["forgotten"] == ["car"] and results["forget_set"]["available"] == 10
    # Pixels of the config's splits, as delete-tasks audit reads them: of one test image, up to 20 of the class.
    audit, pixels = results["audit"], results["details"]["test_set"]["forgotten_pixels"]
    assert audit["trained_on"] == "labelled training samples"
    assert audit["rows"]["erased"]["linear_probe"]["count"] == min(20, pixels)
    assert set(results["details"]["per_class"]["original"]) == set(CityscapesDataset.METAINFO["classes"])
