"""images forget --deep: public data are read without labels, reported, and may not overlap the test images."""

import re

import pytest
from helpers import read_json, read_results, run
from PIL import Image

from delete_images.data.opening import open_unlabelled
from delete_tasks.runner.forget_set import digest_of


@pytest.fixture(scope="module")
def public(shared) -> str:
    return f"cifar100:{shared / 'data' / 'cifar100'}"


@pytest.fixture
def deeply(deer):
    """``deeply(work_dir, *more)``: words of a run that also removes deer from the features."""
    return lambda work_dir, *more: deer(work_dir, "--device cpu --deep", *more, query="class=deer&limit=32")


def test_the_images_read_are_recorded(deeply, cifar, public, tmp_path, publish_anyway):
    named = f"{public}?limit=40"
    more = f"--public {named} --test {cifar}?limit=50 --steps 1 --batch-size 16 --audit none"
    run(deeply(tmp_path, more), status=(0, 4))
    results = read_results(tmp_path)
    names = open_unlabelled(named).names
    assert results["public_data"] == {"read": 40, "sha256": digest_of(sorted(names))} and results["retain_set"] is None
    assert results["recipe"]["type"] == "DeepDELETE"
    assert results["recipe"]["public"] == results["data"]["public"] == named
    assert read_json(tmp_path, "record.json")["samples"]["read"] == {"forget set": 32, "public data": 40}
    listed = (tmp_path / "samples.txt").read_text().splitlines()
    assert [line for line in listed if line.startswith("public data")] == [f"public data\t{name}" for name in names]
    page = re.sub(r"\s+", " ", (tmp_path / "record.html").read_text())
    assert "forget set: 32, public data: 40" in page


@pytest.mark.parametrize(("more", "fact"), [
    ("--public PUBLIC?limit=9 --retain CIFAR?class=ship&limit=9", "retain set.*public|--retain.*--public"),
    ("--public CIFAR?split=test&limit=20 --test CIFAR?limit=40", "of --test .*exact copies: 20 of --public"),
    ("--public CIFAR?class=deer&limit=32", "32 of 32 samples of --public .*the forget set"),
    ("--test CIFAR?split=train&class=deer&limit=200", "of 200 samples of --test .*the forget set"),
    ("--retain CIFAR?class=ship&split=test&limit=200 --test CIFAR", "of --test .*exact copies: 200 of --retain"),
    ("--retain CIFAR?limit=60", r"deer.*\?without=deer"), ("--public EMPTY", "empty"),
    ("--public nowhere", "'nowhere'"), ("--method TREW", "--deep .*--method TREW"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_is_written(more, fact, deeply, cifar, public, tmp_path, fails):
    (tmp_path / "empty").mkdir()
    for name, place in (("CIFAR", cifar), ("PUBLIC", public), ("EMPTY", tmp_path / "empty")):
        more = more.replace(name, str(place))
    fails(fact, deeply(tmp_path / "w", "--steps 1", more))
    assert not [path for path in (tmp_path / "w").rglob("*") if path.is_file()]


def test_public_images_need_no_class_folders(tmp_path, public):
    for name in ("a.png", "below/b.png", "below/deeper/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (8, 8)).save(path)
    data = open_unlabelled(str(tmp_path))
    assert data.names == ["a.png", "below/b.png", "below/deeper/c.png"] and set(data.labels.tolist()) == {-1}
    part, whole = (open_unlabelled(f"{public}{query}") for query in ("?without=cattle,kangaroo", ""))
    assert 0 < len(part) < len(whole) == 8000 and set(part.labels.tolist()) == {-1}
