"""``delete-tasks card``: the folder loads as its card says, holds the record, and holds no name that the record hides."""

import json
import re
import sys

import numpy as np
import pytest
import timm
import torch
from helpers import argv, read_json, read_results, run, same_tensors
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor

from delete_images.models.architectures import build
from delete_images.models.model_file import ModelSpec, Preprocessing, save_model
from delete_tasks.fileio.checkpoint import load_once, state_dict_of
from delete_tasks.report.record.sign import SIGNATURE, make_keys

FILES = {"README.md", "config.json", "model.safetensors"}
RECORD = {"record.json", "record.html", "record.sha256", "samples.txt"}
RUNS = {  # published weights, use on the Hub, title, names that must not be there
    "recorded": ("erased/weights.safetensors", "image-classification", "the class green", ()),
    "cleaned": ("cleaned/weights.safetensors", "image-classification", "the backdoor to class red", ()),
    "segmented": ("erased.pth", "image-segmentation", "the class car", ()),
    "faced": ("erased/weights.safetensors", "image-feature-extraction", "a person (name not given)", ("alice", "bob")),
}


def same_model(weights, folder, monkeypatch):
    """Compare weights with the card's, and with those of the model that its own Python loads, which is returned."""
    expected, scope = state_dict_of(load_once(weights), ""), {}
    monkeypatch.chdir(folder)
    exec(re.search("^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)[1], scope)
    assert same_tensors(expected, load_file("model.safetensors")) and not scope["model"].training
    assert same_tensors(expected, scope["model"].state_dict())
    return scope["model"]


@pytest.mark.parametrize("name", RUNS)
def test_the_card_of_a_run(name, request, tmp_path, tells, monkeypatch):
    folder, out, (weights, pipeline, title, hidden) = request.getfixturevalue(name), tmp_path / "card", RUNS[name]
    tells("card", folder, "--out", out, "--base-model me/net --license mit --dataset cifar10")
    assert {path.name for path in out.iterdir()} == FILES | RECORD
    assert all((out / each).read_bytes() == (folder / each).read_bytes() for each in RECORD)
    assert "OK model.safetensors: the erased model's tensors" in tells("record verify", out)
    same_model(folder / weights, out, monkeypatch)
    card = ModelCard.load(out / "README.md")
    assert (card.data.pipeline_tag, card.data.base_model, card.data.license) == (pipeline, "me/net", "mit")
    values = [figure["value"] for figure in read_results(folder)["rows"]["erased"].values()]
    assert all(each.dataset_type == "cifar10" and each.metric_value in values for each in card.data.eval_results)
    assert all(re.search(rf"^\| {row} \| [-\d]", card.text, re.M) for row in ("original", "logit cut off", "erased"))
    assert f"to forget {title}\n" in card.text and read_json(folder, "record.json")["verdict"]["sentence"] in card.text
    written = card.content.lower() + (out / "config.json").read_text().lower()
    assert not [word for word in hidden if word in written]


VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize("name", ["timm:test_resnet.r160_in1k", "torchvision.shufflenet_v2_x0_5", "transformers:vit"])
def test_other_libraries(name, forget, tmp_path, tells, monkeypatch, publish_anyway):
    images, sizes = Preprocessing.named("none", 16, input_range=(-1, 1)), VIT if "vit" in name else {}
    spec = ModelSpec(name, ("red", "green", "blue", "grey"), images, sizes)
    save_model(tmp_path / "model", build(name, num_classes=4, **sizes), spec)
    folder, out = forget(tmp_path / "W", "--no-record", model=tmp_path / "model"), tmp_path / "card"
    assert "without a record" in tells("card", folder / "erased", "--out", out)
    model = same_model(folder / "erased" / "weights.safetensors", out, monkeypatch)
    text = (out / "README.md").read_text()
    assert f"library_name: {name[:4]}" in text and "green" not in text + (out / "config.json").read_text()
    if name.startswith("timm"):
        made = timm.create_model("test_resnet", num_classes=4, checkpoint_path=out / "model.safetensors").state_dict()
        assert same_tensors(model.state_dict(), made) and model.pretrained_cfg["label_names"][1] == "class_1"
        assert timm.data.resolve_model_data_config(model)["mean"] == [0.5] * 3
    if name.startswith("transformers"):
        pixels = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
        inputs = AutoImageProcessor.from_pretrained(".")(pixels, return_tensors="pt")["pixel_values"]
        assert torch.allclose(inputs[0], torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1, atol=1e-6)
        assert model.config.id2label == {0: "red", 1: "class_1", 2: "blue", 3: "grey"}
        run("images import", out, tmp_path / "again")
        assert same_tensors(model.state_dict(), load_file(tmp_path / "again" / "weights.safetensors"))


def test_resnet20_signed(resnet20, few, faced, tmp_path, fails, tells, publish_anyway, monkeypatch):
    folder, out, data = tmp_path / "W", tmp_path / "card", few(5, 5)
    make_keys(str(tmp_path / "key"))
    run("images forget --model", resnet20, "--forget", data, "--test", data, "--classes deer --steps 1 --audit none --device cpu",
        "--augment none --batch-size 4 --sign", tmp_path / "key", "--work-dir", folder)  # fmt: skip
    words, elsewhere = argv("card", folder, "--out", out), argv("card", folder, "--out", tmp_path / "x")
    run(words)
    assert "OK signature" in tells("record verify", out, "--key", tmp_path / "key.pub")
    fails("already exists", words)
    fails("names what the record does not", "card", faced, "--out", tmp_path / "x", "--base-model me/Alice-Ng")
    (folder / SIGNATURE).unlink()
    run(words, "--overwrite")
    assert {path.name for path in out.iterdir()} == FILES | RECORD
    save_file(load_file(resnet20 / "weights.safetensors"), out / "model.safetensors")
    assert "FAILED model.safetensors: SHA-256 was" in tells("record verify", out, status=1)
    (out / "README.md").unlink()
    fails("no card of this command", words, "--overwrite")
    (folder / "results.json").write_text(json.dumps({**read_results(folder), "steps": 7}))
    fails("has other results than results.json", elsewhere)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fails("extra 'hub'", elsewhere)
    assert not (tmp_path / "x").exists()
