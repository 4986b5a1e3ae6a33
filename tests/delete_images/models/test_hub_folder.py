"""Folders of the Hugging Face Hub as model folders: names, preprocessing and outputs are those of timm and transformers."""

import json

import numpy as np
import pytest
import timm
import torch
from helpers import run
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from delete_images.data.opening import open_data
from delete_images.models.hub_folder import read_hub_folder
from delete_images.models.model_file import load_model
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
NORMAL = {"image_mean": MEAN, "image_std": STD}


@pytest.fixture
def vit(tmp_path):
    """A classifier of five classes, two of the same name, as transformers saves it, and its processor."""
    torch.manual_seed(0)
    names = dict(enumerate(["red", "green", "blue", "grey", "red"]))
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    model = ViTForImageClassification(ViTConfig(**sizes, intermediate_size=64, **labels)).eval()
    processor = ViTImageProcessor(size={"height": 16, "width": 16}, **NORMAL)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", model, processor


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=pixels, y=np.zeros(6, np.int64))
    return pixels, open_data(str(tmp_path / "data.npz"), "test")


def test_transformers(vit, images, tmp_path):
    folder, model, processor = vit
    run("images import", folder, tmp_path / "model")
    network, spec = load_model(tmp_path / "model")
    assert spec.classes == ("red (0)", "green", "blue", "grey", "red (4)") and spec.preprocessing.resize == "stretch"
    with torch.no_grad():
        expected = model(**processor([*images[0]], return_tensors="pt")).logits
    assert torch.allclose(predict_images(network, spec, images[1]).logits, expected, atol=1e-5)


def test_timm(images, tmp_path):
    """Written as timm's ``save_for_hf`` writes it."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4, drop_rate=0.1).eval()
    (tmp_path / "net").mkdir()
    save_file(model.state_dict(), tmp_path / "net" / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 4, "model_args": {"drop_rate": 0.1},
              "pretrained_cfg": {"input_size": [3, 16, 16], "mean": MEAN, "std": STD, "crop_pct": 0.5}}  # fmt: skip
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    run("images import", tmp_path / "net", tmp_path / "model", "--classes a b c d")
    network, spec = load_model(tmp_path / "model")
    assert (spec.classes, spec.preprocessing.resize) == (("a", "b", "c", "d"), "crop")
    assert (spec.arguments, spec.preprocessing.crop_fraction) == ({"drop_rate": 0.1}, 0.5)
    inputs = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(inputs), model(inputs))


@pytest.mark.parametrize(("processor", "expected"), [
    ({"size": 20}, ((20, 20), "stretch", 1.0)),
    ({"size": {"height": 20, "width": 30}, "do_rescale": False}, ((20, 30), "stretch", 1.0)),
    ({"size": {"shortest_edge": 20}}, ((20, 20), "crop", 1.0)),
    ({"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16}, ((16, 16), "crop", 0.8)),
    ({"size": {"shortest_edge": 20}, "crop_pct": 0.875}, ((20, 20), "crop", 0.875)),
    ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ((384, 384), "stretch", 1.0)),
])  # fmt: skip
def test_processors(vit, processor, expected):
    (vit[0] / "preprocessor_config.json").write_text(json.dumps({**NORMAL, **processor}))
    read = read_hub_folder(vit[0])[1].preprocessing
    assert (read.size, read.resize, read.crop_fraction) == expected
    assert read.input_range == (0, pytest.approx(255.0 if processor.get("do_rescale") is False else 1.0))


@pytest.mark.parametrize(("name", "content", "message"), [
    ("config.json", None, "no config.json"), ("model.safetensors", None, "no config.json and model.safetensors or"),
    ("preprocessor_config.json", None, "preprocessor_config.json"), ("config.json", "[]", "cannot be read as"),
    ("config.json", "{}", "model_type"), ("preprocessor_config.json", '{"size": {}}', "cannot be read as"),
    ("preprocessor_config.json", '{"size": 16, "image_mean": 3}', "cannot be read as"),
])  # fmt: skip
def test_folders_that_say_too_little(vit, name, content, message):
    if content is None:
        (vit[0] / name).unlink()
    else:
        (vit[0] / name).write_text(content)
    with pytest.raises(RequestError, match=message):
        read_hub_folder(vit[0])


def test_options_that_the_folder_decides_are_refused(vit, tmp_path, fails):
    fails("states its --architecture, --size", "images import", vit[0], tmp_path / "M", "--size 32 --architecture vit")
    fails("give its weights file", "images import", tmp_path, tmp_path / "M")
    fails("5 outputs|2 class names", "images import", vit[0], tmp_path / "M", "--classes a b")
    assert not (tmp_path / "M").exists()
