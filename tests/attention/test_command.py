"""The attention command on real images and networks."""

import os
import shutil

import pytest
import torch
from helpers import argv, edit_json, read_json, run
from images import BAD
from PIL import Image

from delete_images.models.class_names import CIFAR10_CLASSES
from delete_images.models.model_file import Preprocessing, import_checkpoint, load_model, save_model
from delete_tasks.task import load_task, open_models


@pytest.fixture(scope="module")
def models(shared, tmp_path_factory):
    """The I-BAU network with a 4x4 patch, and an 'erased' one with the opposite logit of ship."""
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


def test_a_class(words, tmp_path, tells):
    options = argv("--limit 3 --show 1 --task images --out", tmp_path / "a.png", "--retrained", [words[2]])
    assert "median A / A of the original" in tells(words, options)
    said = read_json(tmp_path, "a.json")
    assert said["layer"] == "network.features.21" and said["task"] == "images"
    summary = said["summary"]["erased"]
    assert said["summary"]["retrained"]["removed"]["ratio"] == 1.0  # the original in its place
    assert summary["removed"]["samples"] == summary["kept"]["samples"] == 3
    assert summary["removed"]["ratio"] < 0.5 and summary["kept"]["correlation"] == 1.0
    assert {row["class"] for row in said["samples"] if row["removed"]} == {"ship"}
    assert said["samples"][0]["region"] == "whole picture" and (tmp_path / "a.png").stat().st_size > 10_000


def test_a_trigger(words, tmp_path):
    """The region is the trigger; images without it are kept samples."""
    run(words, "--trigger badnets:size=4,pos=27,27 --limit 8 --show 1 --out", tmp_path / "t.png")
    said = read_json(tmp_path, "t.json")
    assert said["task"] == "backdoor" and {row["region"] for row in said["samples"] if row["removed"]} == {"trigger"}
    assert said["summary"]["erased"]["removed"]["share_before"] > 3  # percent; the patch is 1.6% of the picture


def test_single_images_and_kept_classes(words, tmp_path):
    """A name that is not UTF-8 is escaped."""
    image = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.new("RGB", (32, 32), (90, 120, 200)).save(image)
    options = argv("--retain-classes cat --limit 2 --task images --layer network.features.5 --out", tmp_path / "k.png")
    run(words[:-1], [image], words[-1:], options)
    said = read_json(tmp_path, "k.json")
    assert said["layer"] == "network.features.5" and said["samples"][0]["sample"] == "caf\\udce9.png"
    assert {row["class"] for row in said["samples"] if not row["removed"]} == {"cat"}


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--layer", "network.nowhere"], "is no layer of the model; candidates"),
     (["--class", "shep"], "Did you mean 'ship'"), (["--out", "a.gif"], "--out takes a file that ends in .png"),
     (["--show", "0"], "--show: expected"), (["--limit", "0"], "--limit: expected"),
     (["--erased", __file__], "is no model folder"),
     (["--original", __file__], "none of the tasks images takes .* as a model"),
     (["--task", "sounds"], "no task 'sounds' is installed; there are: "),
     (["--trigger", "patch", "--task", "backdoor"], "names no trigger")],
)  # fmt: skip
def test_refusals(words, more, message, tmp_path, monkeypatch, fails):
    monkeypatch.chdir(tmp_path)
    fails(message, words, "--task images", more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["half.png", "empty.png", "bomb.png", "nan.tif"])
def test_images_that_cannot_be_read_are_refused(words, name, tmp_path, monkeypatch, fails):
    """They are checked before a task reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(BAD[name][0])
    fails(f"{name}.*{BAD[name][1]}", words[:-1], name, "--task images")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_models_of_other_shapes_are_refused(models, tmp_path, fails):
    shutil.copytree(models / "original", tmp_path / "other")
    edit_json(tmp_path / "other" / "model.json", lambda content: content["preprocessing"].update(size=[64, 64]))
    words = argv("attention --original", models / "original", "--erased", tmp_path / "other")
    fails("one shape", words, "--class ship x --task images")


def test_segmentation(repository, tmp_path):
    """The region is the pixels of the class, by annotation or prediction."""
    from mmengine.config import Config

    from delete_mmseg.demo.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=1, val=2)
    cfg = Config.fromfile(str(repository / "configs/segmentation/demo_street-scenes_forget-car.py"))
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(tmp_path / "scenes")
    paths = dict.fromkeys(("original", "erased"), str(repository / "plugins/delete_mmseg/demo/street_scenes.pth"))
    task, opened = open_models(paths, {}, {"config": cfg, "task": "segmentation"}, "attention")
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
