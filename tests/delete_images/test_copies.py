"""images forget: copies of forget images in test, retain and public data, and a fixed row head_only."""

import io

import numpy as np
import pytest
from helpers import read_json, read_results, run
from PIL import Image

from delete_images.data.datasets import ImageDataset
from delete_images.data.opening import open_data
from delete_images.models.class_names import CIFAR10_CLASSES
from delete_images.models.model_file import load_spec
from delete_images.rows import keep_apart

QUICK = "--steps 1 --batch-size 8 --augment none --audit none"


@pytest.fixture
def data(cifar, tmp_path):
    """``data(name, count, copies, jpegs)``: an .npz of ships, with forget images among them as 'ship', exact and re-encoded."""
    deer = [image for image, _ in open_data(f"{cifar}?class=deer&limit=20")]

    def jpeg(image):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=80)
        return np.asarray(Image.open(stream))

    def data(name, count, copies=0, jpegs=0):
        split = "test" if name == "test" else "train"
        others = open_data(f"{cifar}?class=ship&limit={max(1, count - copies - jpegs)}", split)
        first = len(name)  # other images for other data
        images = [*deer[:copies], *map(jpeg, deer[first : first + jpegs]), *(image for image, _ in others)]
        labels = np.full(count, 8)
        np.savez(tmp_path / f"{name}.npz", x=np.stack(images[:count]), y=labels, classes=np.array(CIFAR10_CLASSES))
        return tmp_path / f"{name}.npz"

    return data


FACTS = {  # among, left out, count, total
    ("--retain", True, 1, 120), ("--retain", False, 2, 119), ("--test", True, 1, 110), ("--test", False, 1, 109),
}  # fmt: skip


def test_copies_are_left_out_or_reported(resnet20, cifar, data):
    spec = load_spec(resnet20)
    dataset = ImageDataset(f"{cifar}?class=deer&limit=20", spec, retain=str(data("retain", 120, 1, 2)))
    samples = {"test": open_data(str(data("test", 110, 1, 1)), "test", spec.classes)}
    copies, left_out = keep_apart(dataset, [4], None, samples)
    assert {(each.among, each.left_out, each.count, each.total) for each in copies} == FACTS and len(copies) == 4
    assert {each.of for each in copies} == {"the forget set"} and left_out == [0]
    assert len(samples["test"]) == 109 and len(dataset.retain) == 119


@pytest.mark.long
def test_copies_are_on_record(deer, data, tmp_path, tells, publish_anyway):
    """Each is named on the terminal, in results.json and in the record, whose figures can be measured again."""
    words = ["--test", data("test", 110, 1, 1), "--retain", data("retain", 120, 1, 2)]
    said = tells(deer(tmp_path / "w", QUICK, words), status=(0, 4))
    results, record = read_results(tmp_path / "w"), read_json(tmp_path, "w", "record.json")
    keys = ("among", "left_out", "count", "total")
    assert {tuple(each[key] for key in keys) for each in results["duplicates"]} == FACTS
    assert "Left out: 1 of 110 samples of --test (0.909%)" in said and "(test/00000)" in said
    assert "Warning: 2 of 119 samples of --retain" in said and "(train/00001, train/00002)" in said
    assert sum("exact copies" in text or "look like" in text for text in record["limits"]) == 4
    assert results["retain_set"]["read"] == record["samples"]["read"]["retain set"] == 119
    assert results["rows"]["original"]["remain_acc"]["count"] == 109
    run("record verify", tmp_path / "w", "--rerun")


@pytest.mark.parametrize(("option", "count", "copies", "fact"), [
    ("--retain", 50, 1, r"1 of 50 samples of --retain \(2%\) .*copies: 1 of the forget set \(train/00000\)"),
    ("--retain", 3, 3, r"3 of 3 samples of --retain \(100%\)"),
    ("--deep --public", 40, 2, "2 of 40 samples of --public .* other images, or leave it out"),
    ("--test", 99, 1, r"1 of 99 samples of --test .* 1% are left out; give test images that nothing else reads"),
])  # fmt: skip
def test_more_than_one_percent_is_refused(option, count, copies, fact, deer, data, tmp_path, fails):
    fails(fact, deer(tmp_path / "w", QUICK, option, data("more", count, copies)))
    assert not (tmp_path / "w").exists()


@pytest.mark.long
def test_the_row_head_only_does_not_follow_the_run(deer, cifar, tmp_path, publish_anyway):
    """Neither its options nor its seed; and hardly the number of images."""
    test = f"--test {cifar}?limit=300 --no-record"
    runs = {"a": "--temperature 1", "b": "--temperature 8 --masking own --seed 3 --teacher-temperature 0.1 --steps 2"}
    for name, more in runs.items():
        run(deer(tmp_path / name, QUICK, test, more), status=(0, 4))
    run(deer(tmp_path / "c", QUICK, test, query="class=deer&limit=300"), status=(0, 4))
    first, second, more = (read_results(tmp_path / name)["rows"]["head_only"] for name in "abc")
    assert first == second and first["forget_acc"]["value"] < 5
    assert abs(first["remain_acc"]["value"] - more["remain_acc"]["value"]) < 2
