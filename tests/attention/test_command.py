"""delete-tasks attention on real images and networks, as a user types it."""

import json
import os
import re
import shutil
import zlib

import pytest
import torch
from helpers import argv

from delete_images.models.class_names import CIFAR10_CLASSES
from delete_images.models.model_file import Preprocessing, import_checkpoint, load_model, save_model
from delete_tasks.attention.samples import open_models
from delete_tasks.cli import main
from delete_tasks.task import load_task


@pytest.fixture(scope="module")
def models(shared, tmp_path_factory):
    """The I-BAU network with a 4x4 patch, and an 'erased' one whose logit of ship is turned around."""
    folder = tmp_path_factory.mktemp("models")
    weights = shared / "weights" / "ibau_cifar10_badnets_8_02.pth"
    import_checkpoint(weights, folder / "original", "ibau_vgg", CIFAR10_CLASSES, Preprocessing.named("none", 32))
    network, spec = load_model(folder / "original")
    network.classifier.weight.data[8] *= -1
    save_model(folder / "erased", network, spec)
    return folder


@pytest.fixture(scope="module")
def words(models, shared):
    data = f"cifar10:{shared / 'data' / 'cifar10'}?limit=40"
    return argv("attention --original", models / "original", "--erased", models / "erased", "--class ship", data)


def test_a_class(words, tmp_path, capsys):
    command = [*words, "--limit", "3", "--show", "1", "--out", str(tmp_path / "a.png"), "--task", "images"]
    assert main([*command, "--retrained", words[2]]) == 0
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["layer"] == "network.features.21" and said["task"] == "images"
    summary = said["summary"]["erased"]
    assert said["summary"]["retrained"]["removed"]["ratio"] == 1.0  # the original in its place
    assert summary["removed"]["samples"] == summary["kept"]["samples"] == 3
    assert summary["removed"]["ratio"] < 0.5 and summary["kept"]["correlation"] == 1.0
    assert {row["class"] for row in said["samples"] if row["removed"]} == {"ship"}
    assert said["samples"][0]["region"] == "whole picture" and (tmp_path / "a.png").stat().st_size > 10_000
    assert "median A / A of the original" in capsys.readouterr().out


def test_a_trigger(words, tmp_path):
    """The trigger's pixels are the region, and images without it are those to be kept."""
    assert main([*words, *argv("--trigger badnets:size=4,pos=27,27 --limit 8 --show 1 --out", tmp_path / "t.png")]) == 0
    said = json.loads((tmp_path / "t.json").read_text())
    assert said["task"] == "backdoor" and {row["region"] for row in said["samples"] if row["removed"]} == {"trigger"}
    assert said["summary"]["erased"]["removed"]["share_before"] > 3  # percent; the patch is 1.6% of the picture


def test_single_images_and_kept_classes(words, models, shared, tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32), (90, 120, 200)).save(tmp_path / "sky.png")
    options = argv("--retain-classes cat --limit 2 --task images --layer network.features.5 --out", tmp_path / "k.png")
    assert main([*words[:-1], str(tmp_path / "sky.png"), words[-1], *options]) == 0
    said = json.loads((tmp_path / "k.json").read_text())
    assert said["layer"] == "network.features.5" and said["samples"][0]["sample"] == "sky.png"
    assert {row["class"] for row in said["samples"] if not row["removed"]} == {"cat"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "network.nowhere"], "is no layer of the model; candidates"),
        (["--class", "shep"], "Did you mean 'ship'"),
        (["--out", "a.gif"], "--out takes a file that ends in .png"),
        (["--show", "0"], "--show: expected"),
        (["--limit", "0"], "--limit: expected"),
        (["--erased", "nowhere"], "is no model folder"),
        (["--original", "nowhere"], "none of the tasks images takes 'nowhere' as a model"),
        (["--task", "sounds"], "no task 'sounds' is installed; there are: "),
        (["--trigger", "patch", "--task", "backdoor"], "names no trigger"),
    ],
)
def test_refusals(words, more, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--task", "images", *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def odd(tmp_path):
    """Images that cannot be used, and one that can but has a name that is no UTF-8."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "odd"
    folder.mkdir()
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    whole.save(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "half.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    # A picture that says it has 30,000 x 30,000 pixels.
    head = bytearray(data)
    head[16:24] = (30_000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(head)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "depth.tif")
    (folder / "whole.png").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half.png", r"half\.png' cannot be read as an image \(.*truncated"),
        ("empty.jpg", r"empty\.jpg' cannot be read as an image \(an empty file\)"),
        ("bomb.png", r"bomb\.png' is too large: 900,000,000 pixels"),
        ("depth.tif", r"depth\.tif' holds floating-point pixels"),
    ],
)
@pytest.mark.parametrize("task", ["images", "faces", "segmentation"])
def test_images_that_cannot_be_used_are_named(words, odd, tmp_path, monkeypatch, capsys, task, name, message):
    """Whichever task reads them: nothing is decoded before it is known to be whole."""
    if task != "images":
        opened = load_task("images").open({"original": words[2]}, {}, {})
        monkeypatch.setattr(type(load_task(task)), "open", lambda self, paths, data, options: opened)
    monkeypatch.chdir(tmp_path)
    assert main([*words[:-1], str(odd / name), "--task", task]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["odd"]


def test_a_name_that_is_no_utf8_is_escaped(words, odd, tmp_path):
    (image,) = odd.glob("caf*.png")
    options = argv("--limit 1 --task images --out", tmp_path / "a.png")
    assert main([*words[:-1], str(image), words[-1], *options]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["samples"][0]["sample"] == "caf\\udce9.png"


def test_models_of_other_shapes_are_refused(models, tmp_path, capsys):
    shutil.copytree(models / "original", tmp_path / "other")
    description = json.loads((tmp_path / "other" / "model.json").read_text())
    description["preprocessing"]["size"] = [64, 64]
    (tmp_path / "other" / "model.json").write_text(json.dumps(description))
    command = argv(
        "attention --original", models / "original", "--erased", tmp_path / "other", "--class ship x --task images"
    )
    assert main(command) == 2 and "one shape" in capsys.readouterr().err


def test_segmentation(repository, tmp_path):
    """The demonstration's network on a street scene: the class's pixels are the region, by annotation or by prediction."""
    from mmengine.config import Config

    from delete_mmseg.demo.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=1, val=2)
    cfg = Config.fromfile(str(repository / "configs/segmentation/demo_street-scenes_forget-car.py"))
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(tmp_path / "scenes")
    weights = str(repository / "plugins/delete_mmseg/demo/street_scenes.pth")
    task, opened = open_models({"original": weights, "erased": weights}, {"config": cfg}, "segmentation")
    assert task is load_task("segmentation")
    car = opened.names.index("car")
    found = list(opened.look(["test"], car, [opened.names.index("road")]))
    assert {sample.region_is for sample in found} == {"pixels of the class"} and any(sample.removed for sample in found)
    for sample in found:
        assert sample.region.shape == sample.picture.shape[:2] == tuple(sample.inputs.shape[1:])
    with torch.no_grad():
        logits = opened.models["original"].run(found[0].inputs[None])
    assert tuple(logits.shape) == (1, len(opened.names), *found[0].region.shape)
    image = next((tmp_path / "scenes").rglob("*train*/**/*.png"), None) or next((tmp_path / "scenes").rglob("*.png"))
    by_eye = list(opened.look([str(image)], car, []))
    assert by_eye and torch.isfinite(by_eye[0].inputs).all()


def test_the_bar_counts_what_is_looked_at():
    from types import SimpleNamespace

    from delete_tasks.attention.samples import _up_to

    kinds = (True, True, True, False, True, False, False)
    samples = [SimpleNamespace(number=number, class_id=number, removed=removed) for number, removed in enumerate(kinds)]
    assert [sample.number for sample in _up_to(iter(samples), 2)] == [0, 1, 3, 5]
