"""Data strings: their parts, options, and the classes that they choose."""

import os

import numpy as np
import pytest
from helpers import Counted

from delete_images.data.opening import open_data
from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError
from delete_tasks.request.classes import NameIndex

DIGITS = dict.fromkeys(["0", "1", "10", "11", "2"], 1)


@pytest.mark.parametrize(("text", "options", "composed"), [
    ("cifar10", {"without": []}, "cifar10"),
    ("cifar10:/d?limit=3", {"without": ["deer", "a,b"]}, "cifar10:/d?limit=3&without=deer,a%2Cb"),
    ("photos", {"class": ["a b"], "split": "test"}, "photos?class=a%20b&split=test"),
])  # fmt: skip
def test_options_are_added(text, options, composed):
    assert parse_spec(text).compose(options) == composed


def test_a_key_is_given_once():
    with pytest.raises(RequestError, match=r"'cifar10\?without=cat' .*without="):
        parse_spec("cifar10?without=cat").compose({"without": ["deer"]})


@pytest.mark.parametrize("text", ["cifar10", "cifar10:?limit=3", "cifar10:{}/d?limit=3", "{}/d", "{}/d?class=a,b"])
def test_the_parts_name_the_same_data_from_any_folder(text):
    here = parse_spec(text.format("."))
    before, path, rest = here.parts()
    assert path is None or path == os.path.abspath("d")
    assert here.absolute == f"{before}{path or ''}{rest}" == text.format(os.getcwd())
    assert parse_spec(here.absolute).limit == here.limit


@pytest.mark.parametrize(
    "text", ["a" * 5000, "a\0b", "~nobody-of-that-name/x", "\ud800", "x?limit=" + "9" * 5000, "x?seed=²", "cifar10:a\0"]
)
def test_strings_that_cannot_be_paths(text, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequestError):
        open_data(text)


@pytest.mark.parametrize(("counts", "query", "chosen"), [
    (DIGITS, "class=2", ["2"]), (DIGITS, "class=%232", ["10"]), (DIGITS, "class=#2", ["10"]),
    (DIGITS, "without=2,10,#0", ["1", "11"]), ({"a,b": 1, "c": 1}, "class=a%2Cb", ["a,b"]),
])  # fmt: skip
def test_classes_by_name_then_by_id(folders, counts, query, chosen):
    data = open_data(f"{folders(counts)}?{query}")
    assert [data.class_names[i] for i in data.labels] == chosen


def test_ids_are_the_models(folders):
    photos = folders({"bee": 1, "cat": 1})
    data = open_data(f"{photos}?class=#2", classes=["ant", "bee", "cat"])
    assert data.names == ["cat/0.png"] and data.labels.tolist() == [2]
    assert open_data(f"{photos}?label=#1", classes=["ant", "bee"]).labels.tolist() == [1, 1]
    assert open_data(f"{photos}?class=#1").names == ["cat/0.png"]


def test_the_choice_comes_before_the_label(tmp_path):
    """``class=`` selects by the data's labels, which ``label=`` then replaces."""
    path, classes = tmp_path / "a.npz", ["ant", "bee", "cat"]
    np.savez(path, x=np.zeros((6, 4, 4, 3), np.uint8), y=np.arange(6) % 3)
    data = open_data(f"{path}?class=bee&label=cat", classes=classes)
    assert data.names == ["train/00001", "train/00004"] and data.labels.tolist() == [2, 2]
    assert open_data(f"{path}?class=cat&label=cat", classes=classes).names == ["train/00002", "train/00005"]
    assert open_data(f"{path}?class=2&label=cat").names == ["train/00002", "train/00005"]
    assert open_data(f"{path}?class=#0&label=none", classes=classes).labels.tolist() == [-1, -1]


def test_names_of_data_are_matched_at_once_and_are_not_ids():
    assert NameIndex(["a", "b"]).match(["#1", "B", "x"]) == [-2, 1, -2]
    Counted.compared = 0
    names = [Counted(f"class {i}") for i in range(1000)]
    assert NameIndex(names).match([f"Class_{i}" for i in range(1000)]) == list(range(1000))
    assert NameIndex(names).match(names[::-1]) == list(range(1000))[::-1]
    assert Counted.compared <= 4000
