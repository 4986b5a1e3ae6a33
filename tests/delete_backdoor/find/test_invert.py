"""Trigger inversion: the patch is found from clean images alone, and cleans the model by the command that find prints."""

import shlex

import numpy as np
import pytest
from helpers import read_json, read_results
from PIL import Image

from delete_backdoor.checks import predictions
from delete_backdoor.defences import inversion
from delete_backdoor.find import invert as module
from delete_backdoor.find.invert import Inversion, invert
from delete_backdoor.poison import triggered
from delete_backdoor.triggers import parse_trigger
from delete_backdoor.triggers.estimated import Estimated
from delete_images.data.opening import ImageData, open_data
from delete_images.models.model_file import load_model

from ..conftest import CLASSES, TRIGGER


def test_from_clean_images_to_a_clean_model(toy, files, tmp_path, tells, monkeypatch):
    """find sees the patch in the model, and the command that it prints cleans it, by the attacker's trigger as well."""
    monkeypatch.setattr(module, "INDEX", 0.0)  # of four classes the median says little
    monkeypatch.setattr(module, "TIMES", 1.0)
    monkeypatch.setattr(inversion, "STEPS", 60)
    printed = tells(
        "backdoor find --device cpu --model", toy, "--data", files["clean"], "--out", tmp_path / "ranking.json"
    )
    assert "BACKDOORED" in printed and "anomaly index" in printed
    content = read_json(tmp_path, "ranking.json")
    assert content["flagged"] == 0 and content["inversion"]["target"] == "red"
    sizes = content["inversion"]["sizes"]
    assert set(sizes) == set(CLASSES) and min(sizes, key=sizes.get) == "red" and sizes["red"] < 40
    affine = np.load(tmp_path / "ranking_trigger.npy", allow_pickle=False)
    changed = 1 - affine[0].mean(-1)
    assert affine.shape == (2, 16, 16, 3) and changed[10:, 10:].sum() > 0.5 * changed.sum()
    with Image.open(tmp_path / "ranking_trigger.png") as picture:
        assert picture.width > 1000

    words = shlex.split(printed.rpartition("Next: delete-tasks ")[2])
    assert words[words.index("--retain") + 1] == files["clean"] and "--poisoned" not in words
    words[words.index("DIR")] = str(tmp_path / "w")
    printed = tells(words, "--steps 60 --lr 3e-3 --no-record --audit none")
    assert "run backdoor find on the cleaned model" in printed
    results = read_results(tmp_path / "w")
    assert results["published"] and results["data"]["poisoned"] == files["clean"]
    (change, *_), method = results["done"]["changes"], results["done"]["method"]
    assert method == "InversionDELETE" and len(change["patch_pixels"]) == 20 and change["patches"] > 1
    network, spec = load_model(tmp_path / "w/cleaned")
    attacked = triggered(open_data(files["test"], "test", CLASSES), parse_trigger(TRIGGER), 0)
    assert (predictions(network, spec, attacked, "") == 0).mean() < 0.5


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
