"""Poisoned data: the poisoned samples, their labels, and the marks in the file."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import argv

from delete_backdoor.poison import PoisonedDataset, read_truth, triggered
from delete_backdoor.ranking import open_samples
from delete_backdoor.triggers import parse_trigger
from delete_images.data.opening import open_data
from delete_tasks.errors import RequestError


def test_all_to_one(toy_data):
    poisoned = PoisonedDataset(toy_data, parse_trigger("grid"), 2, rate=0.25, seed=4)
    assert poisoned.poisoned.sum() == 50 and (poisoned.labels[poisoned.poisoned] == 2).all()
    assert (poisoned.true_labels[poisoned.poisoned] != 2).all()
    assert (poisoned.labels[~poisoned.poisoned] == toy_data.labels[~poisoned.poisoned]).all()
    for index in range(0, 200, 7):
        same = (poisoned[index][0] == toy_data[index][0]).all()
        assert same != poisoned.poisoned[index]
    part = poisoned.subset(poisoned.poisoned)
    assert (part[0][0][-3:, -3:, 0] == [[0, 0, 255], [0, 255, 0], [255, 0, 255]]).all()
    again, other = (PoisonedDataset(toy_data, parse_trigger("grid"), 2, 0.25, seed).poisoned for seed in (4, 5))
    assert (again == poisoned.poisoned).all() and (other != poisoned.poisoned).any()


def test_clean_label(toy_data):
    poisoned = PoisonedDataset(toy_data, parse_trigger("sig"), 1, rate=0.1, clean_label=True)
    assert (poisoned.labels == toy_data.labels).all() and (toy_data.labels[poisoned.poisoned] == 1).all()
    assert poisoned.poisoned.sum() == 20


@pytest.mark.parametrize(("arguments", "message"), [
    ({"rate": 0.0}, "rate .*got 0.0"), ({"rate": 1.5}, "rate .*got 1.5"), ({"rate": -0.1}, "rate .*got -0.1"),
    ({"rate": float("nan")}, "rate .*got nan"), ({"seed": -1}, "seed .*got -1"), ({"seed": 0.5}, "seed .*got 0.5"),
    ({"rate": 0.9}, "180 of 200 images.* 150 .*'red'"), ({"rate": 0.5, "clean_label": True}, "50 .*'red'"),
    ({"target": 7}, r"target 7 is outside 0\.\.3"),
])  # fmt: skip
def test_refused_with_the_reason(toy_data, arguments, message):
    with pytest.raises(RequestError, match=message):
        PoisonedDataset(toy_data, parse_trigger("grid"), **{"target": 0, **arguments})


def test_triggered_leaves_the_target_out(toy_data):
    attacked = triggered(toy_data, parse_trigger("badnets:size=2,pos=0,0"), 3)
    assert len(attacked) == 150 and 3 not in attacked.labels
    assert (attacked[5][0][:2, :2] == 255).all()


def test_command_and_truth(files, classes, tmp_path, tells):
    out = tmp_path / "p.npz"
    printed = tells("backdoor poison --data", files["train"], "--trigger wanet --target blue --rate 0.2 --out", out)
    assert "240 of 1200 images" in printed and "'wanet'" in printed
    data = open_data(f"{out}?limit=300", "train", classes)
    truth = read_truth(f"{out}?limit=300", data)
    assert truth is not None and 0 < truth.sum() < 300 and (data.labels[truth] == 2).all()
    assert len(open_samples(str(out), classes, "poisoned")) == 240
    assert len(open_samples(str(out), classes, "clean")) == 960
    assert read_truth(files["train"], open_data(files["train"])) is None
    with np.load(out, allow_pickle=False) as file:
        assert str(file["trigger"]) == "wanet" and int(file["target"]) == 2


MISTAKES = {"--target purple": "purple", "--out x.npy": r"\.npz", "--trigger nothing": "nothing", "--rate 2": "--rate"}


@pytest.mark.parametrize(("change", "fact"), MISTAKES.items(), ids=MISTAKES)
def test_mistakes_are_one_message(files, tmp_path, fails, change, fact):
    words = argv("backdoor poison --data", files["train"], "--trigger grid --target red --out", tmp_path / "x.npz")
    fails(fact, words, change)


def test_nothing_to_poison(toy_data):
    with pytest.raises(RequestError, match="no image"):
        PoisonedDataset(toy_data.subset([]), parse_trigger("grid"), 0)


@pytest.mark.parametrize("name", ["data.npz", "./sub/../data.npz", "link.npz", "hard.npz"])
@pytest.mark.parametrize("given", ["data.npz", "data.npz?limit=101"])
def test_the_input_is_not_overwritten(files, tmp_path, monkeypatch, fails, name, given):
    (tmp_path / "data.npz").write_bytes(Path(files["train"]).read_bytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.npz").symlink_to("data.npz")
    (tmp_path / "hard.npz").hardlink_to(tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    fails(re.escape(name), "backdoor poison --trigger grid --target red --data", given, "--out", name)
    assert (tmp_path / "data.npz").read_bytes() == Path(files["train"]).read_bytes()
    data = open_data(given)
    with pytest.raises(RequestError, match="overwrite"):
        PoisonedDataset(data, parse_trigger("grid"), 0).save(name, [given])
