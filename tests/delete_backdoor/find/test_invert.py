"""Trigger inversion: the patch is found from clean images alone, and cleans the model by the command that find prints."""

import shlex
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toys
from helpers import read_json, read_results
from PIL import Image

from delete_backdoor.checks import predictions
from delete_backdoor.datasets import BackdoorDataset
from delete_backdoor.defences import inversion
from delete_backdoor.find import invert as module
from delete_backdoor.find.invert import Inversion, invert
from delete_backdoor.poison import PoisonedDataset, triggered
from delete_backdoor.triggers import parse_trigger
from delete_backdoor.triggers.estimated import Estimated
from delete_images.data.opening import ImageData, open_data
from delete_images.models.model_file import load_model

from ..conftest import CLASSES, TRIGGER, make_model


@pytest.fixture
def flat(tmp_path):
    """Model and data strings: images coloured all over, so that no patch turns one into another class as small as the trigger's,
    whatever the processor."""
    files = {name: str(tmp_path / f"{name}.npz") for name in ("clean", "test", "poisoned")}
    for name, count, seed in (("clean", 240, 2), ("test", 400, 3)):
        images, labels = toys.draw(count, seed, blob=16, brighter=40)
        np.savez(files[name], x=images, y=labels, classes=np.array(CLASSES))
    clean = ImageData.from_arrays(*toys.draw(1200, 1, blob=16, brighter=40), CLASSES)
    PoisonedDataset(clean, parse_trigger(TRIGGER), 0, rate=0.1).save(files["poisoned"])
    return make_model(files["poisoned"], tmp_path), files


def test_from_clean_images_to_a_clean_model(flat, tmp_path, tells, monkeypatch):
    """find sees the patch in the model, and the command that it prints cleans it, by the attacker's trigger as well."""
    toy, files = flat
    monkeypatch.setattr(module, "INDEX", 0.0)  # of four classes the median says little
    monkeypatch.setattr(module, "TIMES", 1.0)
    monkeypatch.setattr(inversion, "STEPS", 60)
    # The patch covers 6% of these images of 16x16 pixels.
    monkeypatch.setattr(inversion.InversionDELETE.__init__, "__defaults__", (20, 0.07))
    printed = tells("backdoor find --device cpu --model", toy, "--data", files["clean"], "--out", tmp_path / "r.json")
    assert "BACKDOORED" in printed and "anomaly index" in printed
    content = read_json(tmp_path, "r.json")
    assert content["flagged"] == 0 and content["inversion"]["target"] == "red"
    sizes = content["inversion"]["sizes"]
    assert set(sizes) == set(CLASSES) and min(sizes, key=sizes.get) == "red" and sizes["red"] < 40
    affine = np.load(tmp_path / "r_trigger.npy", allow_pickle=False)
    changed = 1 - affine[0].mean(-1)
    assert affine.shape == (2, 16, 16, 3) and changed[10:, 10:].sum() > 0.5 * changed.sum()
    with Image.open(tmp_path / "r_trigger.png") as picture:
        assert picture.width > 1000

    words = shlex.split(printed.rpartition("Next: delete-tasks ")[2])
    assert words[words.index("--retain") + 1] == files["clean"] and "--poisoned" not in words
    words[words.index("DIR")] = str(tmp_path / "w")
    printed = tells(words, "--steps 150 --lr 3e-3 --no-record --audit none")
    assert "run backdoor find on the cleaned model" in printed
    results = read_results(tmp_path / "w")
    assert results["published"] and results["data"]["poisoned"] == files["clean"]
    (change, *_), method = results["done"]["changes"], results["done"]["method"]
    assert method == "InversionDELETE" and len(change["patch_pixels"]) == 20 and change["patches"] > 1
    network, spec = load_model(tmp_path / "w/cleaned")
    attacked = triggered(open_data(files["test"], "test", CLASSES), parse_trigger(TRIGGER), 0)
    left = (predictions(network, spec, attacked, "") == 0).mean()
    assert left < 0.5


@pytest.mark.parametrize(("index", "times", "backdoored"), [(3.1, 1.6, True), (2.9, 9.0, False), (9.0, 1.4, False)])
def test_both_limits_count(index, times, backdoored):
    trigger = Estimated.of(np.zeros((2, 4, 4, 3)))
    assert Inversion({"a": 1.0, "b": 2.0}, "a", index, times, trigger).backdoored == backdoored
    assert not Inversion({"a": 1.0, "b": 2.0}, "a", index, times, None).backdoored


def test_one_class_alone_finds_nothing(toy):
    network, spec = load_model(toy)
    images = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), np.uint8)
    data = ImageData.from_arrays(images, np.zeros(8, np.int64), CLASSES)
    assert invert(network, spec, data).sizes["red"] == 256


@pytest.mark.parametrize(("largest", "kept"), [(0.5, True), (0.01, False)])
def test_samples_get_patches_that_are_searched_for_in_the_model(toy, files, largest, kept):
    """A patch at most as large as wanted joins the others; only samples with a trigger get one of them."""
    network, spec = load_model(toy)
    model, logger = SimpleNamespace(network=network.eval()), SimpleNamespace(info=print)
    model.parameters, model.modules, model.eval = network.parameters, network.modules, network.eval
    dataset = BackdoorDataset.__new__(BackdoorDataset)
    dataset.spec, dataset.target, dataset.estimated = spec, 0, True
    dataset.retain = open_data(files["clean"], "train", CLASSES)
    dataset.affine = torch.ones(3, 16, 16), torch.zeros(3, 16, 16)
    dataset.affine[0][:, 8:] = 0.0  # black below
    method = inversion.InversionDELETE(largest=largest, searches=4)
    loader, loop = SimpleNamespace(dataset=dataset), SimpleNamespace(max_iters=10)
    runner = SimpleNamespace(unwrapped_model=model, train_dataloader=loader, train_loop=loop, logger=logger, seed=0)
    runner.accumulation = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion.DELETE, "prepare", lambda *_: None)
        method.prepare(runner, model)
    clean = 2 * torch.rand(6, 3, 16, 16) - 1  # normalised with 0.5 and 0.5
    batch = {"inputs": clean.clone(), "teacher_inputs": clean, "retain": torch.tensor([True] * 5 + [False])}
    batch["inputs"][3:] += 1
    method.before_train_iter(runner, 4, batch)
    assert len(method.sizes) == 1 and len(method.patches) == 1 + kept
    assert torch.equal(batch["inputs"][:3], clean[:3]) and torch.equal(batch["inputs"][5], clean[5] + 1)
    changed = (batch["inputs"] - clean).abs().amax(1)[3:5]
    assert (changed[:, 8:] > 0).any() and not torch.equal(batch["inputs"][3:5], clean[3:5] + 1)
    if not kept:
        assert changed[:, :8].max() < 1e-5
