"""Memory of large images: estimates, tiles, refusals."""

import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers import argv, read_json, read_results
from mmengine.config import Config
from PIL import Image

from delete_mmseg import memory
from delete_tasks.errors import RequestError


def test_bytes_are_those_that_exist_at_once():
    def step(side):
        kept = torch.ones(1000)  # the same for each size
        for _ in range(3):
            first = torch.zeros(side, side)
            second = (first + 1).view(-1)  # a view takes nothing
            del first, second
        return kept

    assert memory.bytes_per_pixel(step) == 2 * 4


class _Network(torch.nn.Sequential):
    def encode_decode(self, inputs, metas):
        return self(inputs)


def test_training_takes_what_is_kept_for_the_way_back():
    """In a training step all layers' outputs exist at once, in a prediction two of them do."""
    layers = [torch.nn.Conv2d(3, 8, 1), torch.nn.Sigmoid(), torch.nn.Sigmoid(), torch.nn.Conv2d(8, 4, 1)]
    network = _Network(*layers)
    least = 4 * (3 + 3 * 8 + 4)
    assert least < memory.estimate(network, True) < 3 * least
    assert memory.estimate(network, False) == 4 * 2 * 8 + 4 * 3
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("ids", [[7], [3]], ids=["there", "not there"])
def test_a_window_is_within_the_image_and_at_the_class(ids):
    labels, rng = np.zeros((40, 90), int), np.random.default_rng(0)
    labels[35:, 80:] = 7
    for part in (memory.window(labels, ids, 32), *(memory.window(labels, ids, 32, rng) for _ in range(20))):
        assert labels[part].shape == (32, 32) and (7 not in ids or (labels[part] == 7).any())
    assert labels[memory.window(labels, ids, 64)].shape == (40, 64)
    assert labels[memory.window(labels, ids)].shape == (40, 90)


class _Images(list):
    """A data set of empty images, whose files have another size than the pipeline gives."""

    def __init__(self, folder, *sizes):
        super().__init__({"inputs": torch.zeros(3, height, width)} for width, height in sizes)
        self.paths = [folder / f"{width}.png" for width, _ in sizes]
        for path, (width, height) in zip(self.paths, sizes, strict=True):
            Image.new("RGB", (2 * width, 2 * height)).save(path)
        self.pipeline = SimpleNamespace(transforms=["load", "pack"])

    def get_data_info(self, index):
        return {"img_path": str(self.paths[index])}


@pytest.mark.parametrize(
    ("megabytes", "training", "prediction"), [(1000, False, False), (8, True, False), (4, True, True), (1, None, None)]
)
def test_what_fits_is_said_and_what_does_not_goes_in_windows(megabytes, training, prediction, tmp_path, monkeypatch):
    for name, value in (("LARGE", 10_000), ("TILES", (96, 64, 32)), ("machine_bytes", lambda _: megabytes * 10**6)):
        monkeypatch.setattr(memory, name, value)
    network, cfg = _Network(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 4, 1)), Config(dict(model=dict(test_cfg=None)))
    network.out_channels, network.test_cfg = 4, None
    data = [_Images(tmp_path, (64, 32), (256, 128), (8, 8)) for _ in range(2)]
    if training is None:
        fact = r"256x128 pixels .* even in windows; give images of at most 0\.\d\d times"
        with pytest.raises(RequestError, match=fact):
            memory.fit(network, cfg, *data, [1], 2)
        return
    said = " ".join(memory.fit(network, cfg, *data, [1], 2))
    assert "training step on 2 images of up to 256x128 pixels" in said
    assert "Predicting an image of up to 256x128" in said
    crops = data[0].pipeline.transforms[1:-1]
    assert [(crop.side, crop.ids) for crop in crops] == [(96, [1])] * training
    assert ("windows at the classes, of 96x96" in said) == training
    assert ("prediction goes in windows of 96x96" in said) == prediction
    assert (network.test_cfg or {}).get("crop_size") == (cfg.model.test_cfg or {}).get("crop_size")
    assert network.test_cfg == (dict(mode="slide", crop_size=(96, 96), stride=(64, 64)) if prediction else None)


def test_small_images_take_no_estimate(tmp_path):
    assert memory.fit(_Network(torch.nn.Conv2d(3, 4, 1)), None, *[_Images(tmp_path, (64, 32))] * 2, [1], 8) == []
    assert memory.largest([]) == (0, 0)  # unreadable: another check's matter


def test_a_crop_cuts_image_and_maps_alike():
    image, labels = np.arange(40 * 90).reshape(40, 90), np.zeros((40, 90), int)
    labels[35:, 80:] = 7
    results = {"img": np.stack([image] * 3, 2), "gt_seg_map": labels, "gt_edge_map": image, "flip": False}
    cut = memory.CropAtClasses(32, [7])(results)
    assert cut["img_shape"] == (32, 32) and (cut["img"][..., 0] == cut["gt_edge_map"]).all()
    assert (cut["gt_seg_map"] == 7).any() and cut["flip"] is False


@pytest.mark.long
def test_a_run_in_windows_is_recorded_and_measured_again(make_config, segmentation, tells, tmp_path, monkeypatch):
    for name, value in (("LARGE", 10_000), ("TILES", (64,)), ("machine_bytes", lambda _: 17_500_000)):
        monkeypatch.setattr(memory, name, value)
    said = tells(segmentation(make_config("cgnet", tmp_path / "run", images=2, steps=2), "--batch-size 1"))
    assert "prediction goes in windows of 64x64" in said and "training reads windows at the classes, of 64x64" in said
    results = read_results(tmp_path / "run")
    assert results["audit"] is not None and not results["not_measured"]
    options = read_json(tmp_path, "run/record.json")["measurement"]["options"]
    assert options["config"]["model"]["test_cfg"]["mode"] == "slide"
    assert "FAILED" not in tells("record verify", tmp_path / "run", "--rerun")


@pytest.mark.long
def test_an_image_of_24_megapixels(shared, repository, tmp_path):
    """One image of 6000x4000 in training and one in the test took 53 GB; by --memory it is read in windows."""
    for split, name in (("train", "0001TP_006990"), ("test", "0001TP_008850")):
        for kind, suffix, how in (("images", ".webp", cv2.INTER_LINEAR), ("labels", ".png", cv2.INTER_NEAREST)):
            (tmp_path / kind / split).mkdir(parents=True)
            place = f"{kind}/{split}/{name}{suffix}"
            picture = cv2.imread(str(shared / "data/camvid" / place), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(tmp_path / place), cv2.resize(picture, (6000, 4000), None, 0, 0, how))
    config, weights = repository / "configs/segmentation/cgnet_camvid_forget-car.py", "weights/cgnet_camvid11_mmseg.pth"
    words = argv("segmentation forget", config, "--checkpoint", shared / weights, "--work-dir", tmp_path / "run")
    words += argv("--steps 1 --batch-size 1 --memory 3.8 --audit none --cfg-options train_dataloader.num_workers=0")
    words += argv("train_dataloader.persistent_workers=False")
    words += [f"{split}_dataloader.dataset.data_root={tmp_path}" for split in ("train", "test")]
    code = (
        "import resource, sys; from delete_tasks.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)\n"
        "sys.exit(status)"
    )
    environment = {**os.environ, "DELETE_TASKS_SHARED": str(shared)}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    said = " ".join(done.stdout.split())
    assert "at the classes, of 1024x1024" in said and "goes in windows of 1024x1024" in said, done.stderr[-2000:]
    assert (tmp_path / "run/erased.pth").is_file() and int(said.rsplit("peak ", 1)[1].split()[0]) < 8 << 10
