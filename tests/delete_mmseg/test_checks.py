"""Errors of a request or of its files are reported before the first step, and nothing is written."""

import re
import shutil
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import cv2
import images
import numpy as np
import pytest
from helpers import read_json, read_results

from delete_mmseg import TASK
from delete_mmseg.checks import check_request
from delete_mmseg.files import same_files
from delete_tasks.cli import main
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.copies import leave_out

IMAGE, LABEL = "leftImg8bit/{}/*/*.png", "gtFine/{}/*/*_gtFine_labelIds.png"


@pytest.fixture
def command(make_config, segmentation, tmp_path, capsys):
    """``command(change, *words)``: `segmentation` with a changed config; exit status, output and error."""

    def run(change=lambda cfg: None, *words: str, name: str = "cgnet") -> tuple[int, str, str]:
        cfg = make_config(name, tmp_path / "run", steps=1)
        change(cfg)
        capsys.readouterr()  # of making the network
        return main(segmentation(cfg, *words)), *capsys.readouterr()

    return run


@pytest.fixture
def refused(command, tmp_path):
    """``refused(fact, change, *words)``: the command ends with status 2 and a message that matches, and writes no model."""

    def refused(fact: str, *arguments: object) -> str:
        status, _, error = command(*arguments)
        error = " ".join(error.split())
        assert status == 2 and re.search(fact, error), error
        assert not (tmp_path / "run" / "erased.pth").exists()
        return error

    return refused


def without(part):
    return lambda cfg: cfg.pop(part)


def put(**values):
    """Set parts of a config by dotted names, '__' for the dot."""
    return lambda cfg: cfg.merge_from_dict({name.replace("__", "."): value for name, value in values.items()})


def class_names(count):
    return dict(classes=tuple(f"c{i}" for i in range(count)), palette=[[i, i, i] for i in range(count)])


BAD_CONFIGS = [  # change of the config, fact of the message
    (without("train_dataloader"), "train_dataloader"), (without("model"), "no model"),
    (put(model__backbone__type="CGNett"), "model .*CGNett"), (put(model__backbone__depthh=3), "model .*depthh"),
    (put(model__decode_head__num_classes=18), "decode_head.conv_seg.weight"),
    (put(load_from="nowhere.pth"), "'nowhere.pth'"),
    (put(train_dataloader__dataset__data_root="nowhere"), "train_dataloader.dataset .*'nowhere/leftImg8bit"),
    (put(test_dataloader__dataset__data_root="nowhere"), "test_dataloader.dataset .*'nowhere"),
    (put(test_dataloader__dataset__img_suffix=".bmp"), "test_dataloader.dataset is empty"),
    (put(train_dataloader__dataset__ann_file="no.txt"), "train_dataloader.dataset .*no.txt"),
    (put(test_dataloader__dataset__metainfo=class_names(3)), "test_dataloader.dataset .*classes"),
    (put(unlearn__steps=0), "unlearn.steps"),
    (put(test_dataloader__dataset__pipeline=[dict(type="LoadImage")]), "test_dataloader.dataset .*LoadImage"),
    (put(unlearn__classes=["cra"]), "'cra'.*'car'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "fact"), BAD_CONFIGS)
@pytest.mark.parametrize("dry", [False, pytest.param(True, marks=pytest.mark.long)])
def test_refused_before_a_runner_begins(command, change, fact, dry, tmp_path, monkeypatch):
    monkeypatch.setattr("delete_mmseg.run.UnlearnRunner.from_cfg", None)  # a runner has begun a log
    status, out, error = command(change, *["--dry-run"] * dry)
    assert status == 2 and re.search(fact, error), error
    assert not out and len(error.splitlines()) == 1, out + error
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_dataset_class_beside_the_config_is_found_and_hides_no_plugin(command, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "delete_mmseg").mkdir()
    (tmp_path / "my_scenes.py").write_text(
        "from mmseg.registry import DATASETS\nfrom delete_mmseg.datasets import CityscapesLabelIdsDataset\n"
        "@DATASETS.register_module()\nclass MyScenes(CityscapesLabelIdsDataset): ...\n"
    )
    types = {f"{split}_dataloader__dataset__type": "MyScenes" for split in ("train", "test")}
    status, _, error = command(put(custom_imports__imports=["delete_mmseg", "my_scenes"], **types), "--dry-run")
    assert status == 0, error


def test_dry_run_says_five_lines_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # so that no line is broken
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    status, out, error = command(put(), "--classes car person --dry-run", name="stdc")
    assert status == 0 and len(out.splitlines()) == 5 and not error.strip(), out + error
    time = r"Time: about \d+ seconds on this machine \(measured: [\d.]+ s a step, [\d.]+ s for the table"
    assert re.search(time, out), out
    assert all(fact in out for fact in ("person, car", "10 images (labels)", "auxiliary_head.1", "1 step")), out
    assert not (tmp_path / "run").exists() and not list((tmp_path / "temporary").iterdir())


def rewritten(change, flag=cv2.IMREAD_UNCHANGED):
    return lambda path: cv2.imwrite(str(path), change(cv2.imread(str(path), flag)))


def holding(content):
    return lambda path: path.write_bytes(content(path.read_bytes()) if callable(content) else content)


def with_label(value: int, kind=np.uint8):
    corner = np.add.outer(np.arange(128) // 4, np.arange(256) // 4) == 0
    return rewritten(lambda label: np.where(corner, value, label.astype(kind)).astype(kind))


half, smaller = holding(lambda content: content[: len(content) // 2]), rewritten(lambda pixels: pixels[:-32])
DAMAGE = {  # files, damage of the first one, message with its name
    "label map of another size": (LABEL, smaller, "256x128 .*NAME 256x96"),
    "label map with an unknown label": (LABEL, with_label(200), "NAME .*200 .*16 pixels.* 0 to 18"),
    "label map of large numbers": (LABEL, with_label(26007, np.uint16), "NAME .*26007"),
    "label map of three channels": (LABEL, rewritten(lambda pixels: pixels, cv2.IMREAD_COLOR), "NAME .*128, 256, 3"),
    "half a label map": (LABEL, half, "NAME .*truncated"),
    "empty label map": (LABEL, holding(b""), "NAME .*an empty file"),
    "label map of text": (LABEL, holding(b"hello"), "NAME "), "no label map": (LABEL, Path.unlink, "NAME"),
    "picture of another size": (IMAGE, smaller, "NAME .*256x96 .*256x128"),
    "half a picture": (IMAGE, half, "NAME .*truncated"), "empty picture": (IMAGE, holding(b""), "NAME .*an empty file"),
    "picture of text": (IMAGE, holding(b"hello"), "NAME "),
    "picture that is a bomb": (IMAGE, holding(images.BAD["bomb.png"][0]), "NAME "),
}  # fmt: skip


@pytest.fixture
def copied(scenes, tmp_path):
    """A copy of the scenes that may be damaged."""
    return shutil.copytree(scenes, tmp_path / "scenes")


def reading(root: Path, **more):
    """Set both data sets' folder, and more as :func:`put`."""
    return put(train_dataloader__dataset__data_root=str(root), test_dataloader__dataset__data_root=str(root), **more)


QUICK = ("label map of another size", "label map with an unknown label", "half a picture", "no label map")


@pytest.mark.parametrize("split", ["train", pytest.param("val", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in DAMAGE if name not in QUICK)]
)
def test_damaged_files_are_named(refused, copied, split, name, tmp_path):
    files, damage, fact = DAMAGE[name]
    path = sorted(copied.glob(files.format(split)))[0]
    damage(path)
    assert "1 of" in refused(fact.replace("NAME", path.name), reading(copied))
    assert split == "train" or not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_that_is_gone_is_not_missed(command, copied, split):
    next(copied.glob(IMAGE.format(split))).unlink()
    assert command(reading(copied), "--dry-run")[0] == 0


@pytest.mark.long
def test_copies_of_training_images_are_left_out_or_reported(command, copied, tmp_path, monkeypatch, publish_anyway):
    """Of four test scenes one is a copy (up to half may be left out here), and one is mirrored."""
    monkeypatch.setattr("delete_mmseg.labels.leave_out", partial(leave_out, most=0.5))
    for number, files in product(range(2), (IMAGE, LABEL)):
        path = sorted(copied.glob(files.format("train")))[number]
        content = cv2.imread(str(path), -1)
        place = str(path).replace("/train/", "/val/")
        shutil.copy(path, place) if number else cv2.imwrite(place, content[:, ::-1])
    status, said, error = command(reading(copied))
    assert status in (0, 3, 4), error
    results = read_results(tmp_path / "run")
    facts = [(each["count"], each["total"], each["left_out"]) for each in results["duplicates"]]
    assert facts == [(1, 4, True), (1, 3, False)]
    assert "Left out: 1 of 4 samples of the test data" in said and "look like samples of train_dataloader" in said
    assert results["details"]["test_set"]["images"] == 3
    assert main(["record", "verify", str(tmp_path / "run"), "--rerun"]) == 0


@pytest.mark.parametrize("count", [10, 1])
def test_test_images_that_are_trained_on_are_refused(refused, scenes, copied, count, tmp_path):
    """The same file, or a file with the same content."""
    for path in sorted(copied.glob(IMAGE.format("train")))[1:]:
        path.unlink()
    root = str(copied if count == 1 else scenes)
    prefix = dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train")
    change = dict(test_dataloader__dataset__data_root=root, test_dataloader__dataset__data_prefix=prefix)
    assert "train_dataloader" in refused(f"{count} of {count} samples of the test data", put(**change))
    assert not (tmp_path / "run").exists()


def test_files_that_are_the_same(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"three")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    a, b, c, d, link = (str(tmp_path / name) for name in ("a", "b", "c", "d", "link"))
    assert same_files([a, b, d, "s3://a"], [c, link, "s3://b"]) == [a, b]
    assert same_files(["s3://a"], ["s3://a"]) == ["s3://a"] and not same_files([a], [])


@pytest.mark.parametrize("damage", [half, holding(b"")], ids=["half", "empty"])
def test_images_for_the_originals_predictions_are_checked(refused, copied, damage):
    path = sorted(copied.glob(IMAGE.format("train")))[3]
    damage(path)
    refused(path.name, reading(copied, unlearn__select="teacher"))


def test_what_fails_while_measuring_leaves_the_model_and_the_reason(command, tmp_path, monkeypatch):
    monkeypatch.setattr("delete_mmseg.run.image_and_predictions", Mock(side_effect=OSError("a disk went away")))
    status, _, error = command()
    assert status == 2 and "OSError: a disk went away" in error
    results = read_results(tmp_path / "run")
    assert results["not_measured"]["rows"] == "OSError: a disk went away"
    assert (tmp_path / "run" / "erased.pth").is_file()
    assert all(figure["value"] is None for row in results["rows"].values() for figure in row.values())
    assert {figure["status"] for figure in read_json(tmp_path, "run/record.json")["figures"]} == {"NOT MEASURED"}


def test_a_class_without_test_images_is_reported(command, copied):
    for path in copied.glob(LABEL.format("val")):
        rewritten(lambda label: np.where(label == 26, 0, label).astype(np.uint8))(path)  # car
    status, out, _ = command(reading(copied), "--dry-run")
    assert status == 0 and re.search("test image.* car", out)


@pytest.mark.parametrize("select", ["labels", "teacher"])
def test_images_that_change_are_looked_at_again(make_config, copied, select, tmp_path):
    """A stored selection, see forget_set.json, holds for these images alone."""
    cfg = make_config("cgnet", tmp_path / "run")
    reading(copied)(cfg)
    data = TASK.forget_data(check_request(cfg).splits.train)
    before = data.fingerprint(select)
    half(sorted(copied.glob(IMAGE.format("train")))[0])
    assert data.fingerprint(select) != before


def test_unlearning_by_the_runner_alone_refuses_the_same(make_config, train, copied, tmp_path):
    """Stock train.py has no command in front of it."""
    with_label(77)(sorted(copied.glob(LABEL.format("train")))[0])
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    reading(copied)(cfg)
    with pytest.raises(RequestError, match="77 on 16 pixels"):
        train(cfg)
