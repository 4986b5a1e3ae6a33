"""Demonstration: the drawn scenes, their layout on disk, the network that comes with them, a short run; Cityscapes configs."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import argv, read_results, run, values
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS, MODELS

from delete_mmseg.demo.canvas import LABEL_IDS
from delete_mmseg.demo.scenes import draw_scene, write_scenes
from delete_tasks import config_path

CHECKPOINT = files("delete_mmseg.demo") / "street_scenes.pth"
CAR, ROAD = LABEL_IDS["car"], LABEL_IDS["road"]


@pytest.fixture
def config() -> Config:
    init_default_scope("mmseg")
    return Config.fromfile(str(config_path("segmentation/_base_/street_scenes.py")))


@pytest.mark.parametrize("size", [(128, 256), (96, 100), (61, 83)])
def test_scene_has_the_size_and_only_known_ids(size: tuple[int, int]) -> None:
    rgb, labels = draw_scene(3, size)
    assert rgb.shape == (*size, 3) and rgb.dtype == np.uint8
    assert labels.shape == size and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(LABEL_IDS.values())


def test_scene_depends_on_the_seed_alone() -> None:
    first, np_state = draw_scene((1, 2)), np.random.get_state()[1].copy()
    np.random.seed(7)
    again, other = draw_scene((1, 2)), draw_scene((1, 3))
    np.random.set_state(("MT19937", np_state, 624, 0, 0.0))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_too_small_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16x16 pixels, got 8x256"):
        draw_scene(0, (8, 256))


def test_scenes_vary_and_some_have_no_car() -> None:
    labels = np.stack([draw_scene((5, index))[1] for index in range(60)])
    shares = {name: float((labels == number).any((1, 2)).mean()) for name, number in LABEL_IDS.items()}
    assert 0.6 <= shares["car"] <= 0.95
    assert min(shares[name] for name in ("road", "sidewalk", "building", "sky")) == 1
    assert min(shares[name] for name in ("pole", "traffic light", "traffic sign", "vegetation", "person")) > 0.2
    # The position alone does not reveal the class: cars are found over much of the picture.
    assert (labels == CAR).any(0).mean() > 0.4


def test_colour_and_label_are_of_the_same_stroke() -> None:
    """The vertical edges of large cars are also edges of the picture: shifted labels fit worse."""
    fits = []
    for shift in (-4, 0, 4):
        total = []
        for index in range(12):
            rgb, labels = draw_scene((9, index))
            edge = np.abs(np.diff((labels == CAR).astype(int), axis=1)).astype(bool)
            contrast = np.abs(np.diff(rgb.astype(float), axis=1)).sum(-1)
            total.append(contrast[np.roll(edge, shift, axis=1)])
        fits.append(np.concatenate(total).mean())
    assert fits[1] > 1.3 * max(fits[0], fits[2])


def test_layout_is_cityscapes_and_the_dataset_reads_it(config: Config, tmp_path: Path) -> None:
    write_scenes(tmp_path, train=3, val=2, size=(64, 96), seed=4)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert len(names) == 2 * (3 + 2)
    assert "leftImg8bit/train/demo/demo_000002_000019_leftImg8bit.png" in names
    assert "gtFine/val/demo/demo_000001_000019_gtFine_labelIds.png" in names
    for split, loader, count in (("train", config.train_dataloader, 3), ("val", config.val_dataloader, 2)):
        loader.dataset.update(data_root=str(tmp_path), pipeline=config.test_pipeline)
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == count
        rgb, label_ids = draw_scene((4, 0 if split == "train" else 1, 0), (64, 96))
        sample = dataset[0]
        assert np.array_equal(sample["inputs"].numpy()[::-1].transpose(1, 2, 0), rgb)
        labels = sample["data_samples"].gt_sem_seg.data[0].numpy()
        assert np.array_equal(labels == 0, label_ids == ROAD)
        assert np.array_equal(labels == 13, label_ids == CAR)


def test_more_scenes_leave_the_first_as_they_are(tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", train=1, val=0, size=(32, 64))
    write_scenes(tmp_path / "more", train=2, val=1, size=(32, 64))
    name = "leftImg8bit/train/demo/demo_000000_000019_leftImg8bit.png"
    assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "more" / name).read_bytes()
    val = name.replace("train", "val")
    assert (tmp_path / "more" / val).read_bytes() != (tmp_path / "more" / name).read_bytes()


def test_committed_network_is_small_and_plain(config: Config) -> None:
    """That it sees cars shows the run below."""
    assert Path(str(CHECKPOINT)).stat().st_size < 3_000_000
    content = torch.load(str(CHECKPOINT), weights_only=True, map_location="cpu")
    assert content["meta"] == {} and set(content) == {"meta", "state_dict"}
    MODELS.build(config.model).load_state_dict(content["state_dict"], strict=True)


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
