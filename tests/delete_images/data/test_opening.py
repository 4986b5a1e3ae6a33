"""Data strings, folders, arrays and CIFAR."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from helpers import python
from images import noise

from delete_images.data.opening import ImageData, open_data
from delete_images.data.strings import parse_spec
from delete_images.models.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from delete_tasks.errors import RequestError


@pytest.fixture
def photos(folders):
    root = folders({"cat": 3, "Maple-Tree": 2})
    (root / "cat" / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "arrays.npz"
    x = noise(20, 6, 6, 3)
    np.savez(path, x_train=x, y_train=np.arange(20) % 4, x_test=x[:4], y_test=np.arange(4))
    return path


def test_mosaics_hold_the_same_pixels_as_the_unpacking_tool(shared, tmp_path):
    out = tmp_path / "cifar.npz"
    tool = shared / "tools" / "unpack_cifar10.py"
    subprocess.run([sys.executable, str(tool), str(out), "--split", "test"], check=True, capture_output=True)
    expected = np.load(out)
    data = open_data(f"cifar10:{shared}/data/cifar10", split="test")
    assert data.class_names == CIFAR10_CLASSES
    assert data.labels.dtype == np.int64 and np.array_equal(data.labels, expected["y_test"])
    for index in (0, 999, 1000, 4321, 9999):
        image, label = data[index]
        assert image.dtype == np.uint8 and label == expected["y_test"][index]
        assert np.array_equal(image, expected["x_test"][index])
    assert data.names[4321] == "test/04321"


def test_class_limit_and_order_of_names(shared):
    root = f"cifar10:{shared}/data/cifar10"
    deer = open_data(f"{root}?split=test&class=deer&limit=10")
    assert deer.names == [f"test/{4000 + 100 * step:05d}" for step in range(10)]
    assert set(deer.labels) == {4}
    shuffled = open_data(f"{root}?split=test&class=deer&limit=10&seed=1")
    assert shuffled.names == open_data(f"{root}?class=deer&limit=10&seed=1", split="test").names != deer.names
    assert len(set(shuffled.names)) == 10
    rest = open_data(f"{root}?split=test&without=deer,cat&limit=16")
    assert set(rest.labels) == set(range(10)) - {3, 4}


def test_labels_follow_the_models_order_of_classes(shared):
    root = f"cifar10:{shared}/data/cifar10?split=test&limit=40"
    data = open_data(root, classes=CIFAR10_CLASSES[::-1])
    assert set(data.labels[:4]) == {9}  # airplanes come first
    with pytest.raises(RequestError, match=r"'deer'.*without="):
        open_data(root, classes=[name for name in CIFAR10_CLASSES if name != "deer"])
    fewer = open_data(f"{root}&without=deer", classes=[name for name in CIFAR10_CLASSES if name != "deer"])
    assert set(fewer.labels) == set(range(9))
    assert set(open_data(f"{root}&label=none", classes=["a", "b"]).labels) == {-1}


def test_torchvision_cifar(monkeypatch, tmp_path):
    import torchvision

    class Fake:
        def __init__(self, root, train, download):
            if not train:
                raise RuntimeError("no network")
            self.data, self.targets = noise(6, 32, 32, 3), [0, 1, 2, 3, 4, 99]

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Fake)
    data = open_data(f"cifar100:{tmp_path}")
    assert data.class_names == CIFAR100_CLASSES and len(set(CIFAR100_CLASSES)) == 100
    assert data.labels[-1] == 99 and data[1][0].shape == (32, 32, 3)
    monkeypatch.setenv("DELETE_TASKS_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(RequestError, match=r"cifar100.*elsewhere'.*no network"):
        open_data("cifar100?split=test")
    with pytest.raises(RequestError, match="train or test"):
        open_data("cifar10?split=val")


def test_folder(photos):
    data = open_data(str(photos), classes=["dog", "cat", "maple_tree"])
    assert data.names == ["Maple-Tree/0.png", "Maple-Tree/1.png", "cat/0.png", "cat/1.png", "cat/2.png"]
    assert data.labels.tolist() == [2, 2, 1, 1, 1]
    image, label = data[3]
    assert label == 1 and np.array_equal(image, noise(8, 10, 3, seed=1))
    assert open_data(str(photos)).class_names == ("Maple-Tree", "cat")
    assert open_data(f"{photos}?class=maple tree").labels.tolist() == [0, 0]
    with pytest.raises(RequestError, match=r"'Maple-Tree'.*closest: Maple"):
        open_data(str(photos), classes=["cat", "Maple"])


def test_folder_with_splits(photos, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    photos.rename(root / "train")
    assert len(open_data(str(root))) == 5
    with pytest.raises(RequestError, match=r"'test'.*train"):
        open_data(str(root), split="test")
    with pytest.raises(RequestError, match="split="):
        open_data(f"{root}/train?split=test")


def test_one_label_for_all(photos):
    data = open_data(f"{photos / 'cat'}?label=cat", classes=["dog", "cat"])
    assert data.labels.tolist() == [1, 1, 1] and data.names[0] == "0.png"
    assert open_data(f"{photos / 'cat'}?label=cat").class_names == ("cat",)
    assert open_data(f"{photos}?label=none", classes=["dog"]).labels.tolist() == [-1] * 5
    with pytest.raises(RequestError, match=r"3 images.*\?label=NAME"):
        open_data(str(photos / "cat"))
    with pytest.raises(RequestError, match=r"label: .*'cta'.*'cat'"):
        open_data(f"{photos}?label=cta", classes=["dog", "cat"])


def test_unreadable_images_are_named_counted_and_skipped(photos, caplog):
    whole = (photos / "cat" / "1.png").read_bytes()
    (photos / "cat" / "1.png").write_bytes(whole[:60])
    (photos / "cat" / "2.png").write_text("no image")
    data = open_data(str(photos))
    assert [name for name, _ in data.skipped] == ["cat/1.png", "cat/2.png"]
    assert data.names == ["Maple-Tree/0.png", "Maple-Tree/1.png", "cat/0.png"] and len(data) == 3
    assert np.array_equal(data[2][0], noise(8, 10, 3, seed=0))
    assert "2 of 5 images" in caplog.text and "cat/1.png (" in caplog.text
    with pytest.raises(RequestError, match=r"1 images.*2\.png"):
        (photos / "cat" / "0.png").unlink()
        (photos / "cat" / "1.png").unlink()
        open_data(f"{photos / 'cat'}?label=cat")


@pytest.mark.parametrize(("name", "fact"), [("empty", "empty'"), ("none", "none'"), ("x.csv", r"x\.csv.*\.npz")])
def test_places_without_images_are_refused(name, fact, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(RequestError, match=fact):
        open_data(str(tmp_path / name))


def test_arrays(arrays, tmp_path):
    data = open_data(str(arrays), classes=list("abcd"))
    assert len(data) == 20 and data.labels.tolist() == [0, 1, 2, 3] * 5
    assert len(open_data(f"{arrays}?split=test")) == 4
    assert open_data(f"{arrays}?class=b&limit=2", classes=list("abcd")).names == ["train/00001", "train/00009"]
    named = tmp_path / "named.npz"
    np.savez(named, x=noise(3, 6, 6), y=np.array(["cat", "ant", "cat"]))
    data = open_data(str(named), classes=["cat", "bee", "ant"])
    assert data.labels.tolist() == [0, 2, 0] and data[0][0].shape == (6, 6, 3)
    with pytest.raises(RequestError, match=r"x_test.* x, y"):
        open_data(f"{named}?split=test")


@pytest.mark.parametrize(("query", "message"), [
    ("?limt=3", "'limt=3'.*'limit'"), ("?limit", "KEY=VALUE"), ("?limit=0", "limit.*'0'"), ("?limit=x", "limit is 'x'"),
    ("?class=a&class=b", "'class'"), ("?class=z", "class: .*'z'"), ("?without=a,b,c,d", "without.* 20"),
    ("?class=1", "class: .*'1'.*#"), ("?class=#4", r"class: class id 4 is outside 0\.\.3"),
])  # fmt: skip
def test_string_refusals(arrays, query, message):
    with pytest.raises(RequestError, match=message):
        open_data(f"{arrays}{query}", classes=list("abcd"))


def test_question_marks(photos):
    with pytest.raises(RequestError, match=r"\?class=a"):
        open_data("?class=a")
    odd = photos.with_name("who?.d")
    photos.rename(odd)
    assert len(open_data(str(odd))) == 5
    named = parse_spec(str(odd)).compose({"class": "cat"})
    assert named == f"{odd}?class=cat" and len(open_data(named)) == 3


def test_subset_keeps_names_and_labels(arrays):
    data = open_data(str(arrays))
    part = data.subset([7, 2]).subset([1, 0])
    assert part.names == ["train/00002", "train/00007"] and part.labels.tolist() == [2, 3]
    assert np.array_equal(part[1][0], data[7][0])
    assert data.subset(data.labels == 3).labels.tolist() == [3] * 5
    again = pickle.loads(pickle.dumps(part))  # as spawned workers of a data loader do
    assert np.array_equal(again[0][0], part[0][0])
    with pytest.raises(RequestError, match=r"label.*name"):
        ImageData.from_arrays(noise(3, 4, 4, 3), np.zeros(2), ["a"])


def test_importing_brings_neither_the_runner_nor_albumentations():
    code = "import sys, delete_images.data.opening, delete_images.models.model_file, delete_images.data.transforms\n"
    done = python(code + "print({'mmengine', 'albumentations', 'torchvision', 'timm'} & {*sys.modules})")
    assert done.stdout.strip() == "set()", done.stderr
