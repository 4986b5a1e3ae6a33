"""Class names in data strings: names first, then ids, by the rule of the core's resolver."""

import numpy as np
import pytest
from helpers import Counted
from PIL import Image

from delete_images.data.opening import open_data
from delete_tasks.errors import RequestError
from delete_tasks.request.classes import NameIndex


@pytest.fixture
def folders(tmp_path):
    """``folders(names)``: a folder of class folders, each with one image."""

    def make(names):
        for name in names:
            (tmp_path / "photos" / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "photos" / name / "0.png")
        return str(tmp_path / "photos")

    return make


@pytest.mark.parametrize(
    ("names", "query", "chosen"),
    [
        (["0", "1", "10", "11", "2"], "class=2", ["2"]),
        (["0", "1", "10", "11", "2"], "class=%232", ["10"]),
        (["0", "1", "10", "11", "2"], "class=#2", ["10"]),
        (["0", "1", "10", "11", "2"], "without=2,10,#0", ["1", "11"]),
        (["Deer", "deer", "cat"], "class=Deer", ["Deer"]),
        (["Deer", "cat"], "class=dEER", ["Deer"]),
        (["--wall", "wall"], "class=--wall", ["--wall"]),
        (["#1", "a", "b"], "class=#1", ["#1"]),
        (["a,b", "c"], "class=a%2Cb", ["a,b"]),
    ],
)
def test_names_then_ids(folders, names, query, chosen):
    data = open_data(f"{folders(names)}?{query}")
    assert [data.class_names[i] for i in data.labels] == chosen


@pytest.mark.parametrize(
    ("names", "query", "message"),
    [
        (["Deer", "deer", "cat"], "class=DEER", "class: the class name 'DEER' is ambiguous"),
        (["a", "b"], "class=1", r"class: .*'1'.*#"),
        (["a", "b"], "without=²", "without: .*'²'"),
        (["a", "b"], "class=#2", r"class: class id 2 is outside 0\.\.1"),
        ([f"c{i}" for i in range(40)], "class=zzz", r"\.\.\. and 30 more"),
    ],
)
def test_what_names_no_class(folders, names, query, message):
    with pytest.raises(RequestError, match=message):
        open_data(f"{folders(names)}?{query}")


def test_ids_are_the_models(folders):
    photos = folders(["bee", "cat"])
    data = open_data(f"{photos}?class=#2", classes=["ant", "bee", "cat"])
    assert data.names == ["cat/0.png"] and data.labels.tolist() == [2]
    assert open_data(f"{photos}?label=#1", classes=["ant", "bee"]).labels.tolist() == [1, 1]
    assert open_data(f"{photos}?class=#1").names == ["cat/0.png"]


def test_the_choice_comes_before_the_label(tmp_path):
    """``class=`` asks what the data say, ``label=`` says what the chosen images are."""
    np.savez(tmp_path / "a.npz", x=np.zeros((6, 4, 4, 3), np.uint8), y=np.arange(6) % 3)
    path = tmp_path / "a.npz"
    classes = ["ant", "bee", "cat"]
    data = open_data(f"{path}?class=bee&label=cat", classes=classes)
    assert data.names == ["train/00001", "train/00004"] and data.labels.tolist() == [2, 2]
    assert open_data(f"{path}?class=cat&label=cat", classes=classes).names == ["train/00002", "train/00005"]
    assert open_data(f"{path}?class=2&label=cat").names == ["train/00002", "train/00005"]
    assert open_data(f"{path}?class=#0&label=none", classes=classes).labels.tolist() == [-1, -1]


def test_names_of_the_data_are_no_ids():
    assert NameIndex(["a", "b"]).match(["#1", "B", "x"]) == [-2, 1, -2]


def test_many_names_are_matched_at_once():
    Counted.compared = 0
    names = [Counted(f"class {i}") for i in range(1000)]
    assert NameIndex(names).match([f"Class_{i}" for i in range(1000)]) == list(range(1000))
    assert NameIndex(names).match(names[::-1]) == list(range(1000))[::-1]
    assert Counted.compared <= 4000
