"""What is wrong with a request or with its files is said before the first step, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import cv2
import images
import numpy as np
import pytest
import torch

from delete_mmseg import TASK
from delete_mmseg.checks import check_request
from delete_mmseg.files import same_files
from delete_tasks.cli import main
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import functional as f

IMAGE, LABEL = "leftImg8bit/{}/*/*.png", "gtFine/{}/*/*_gtFine_labelIds.png"


@pytest.fixture
def command(make_config, segmentation, tmp_path, capsys):
    """``command(change, *words)``: `segmentation` with a changed config; exit status, output and error."""

    def run(change=lambda cfg: None, *words: str) -> tuple[int, str, str]:
        cfg = make_config("cgnet", tmp_path / "run", steps=1)
        change(cfg)
        capsys.readouterr()  # of making the network
        return main(segmentation(cfg, *words)), *capsys.readouterr()

    return run


def without(part):
    return lambda cfg: cfg.pop(part)


def put(**values):
    """Set parts of a config by dotted names, '__' for the dot."""
    return lambda cfg: cfg.merge_from_dict({name.replace("__", "."): value for name, value in values.items()})


def class_names(count):
    return dict(classes=tuple(f"c{i}" for i in range(count)), palette=[[i, i, i] for i in range(count)])


BAD_CONFIGS = [  # what is changed, what is said
    (without("test_dataloader"), "test_dataloader"),
    (without("train_dataloader"), "train_dataloader"),
    (without("model"), "no model"),
    (put(model__backbone__type="CGNett"), "model .*CGNett"),
    (put(model__backbone__depthh=3), "model .*depthh"),
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
]


@pytest.mark.parametrize(("change", "fact"), BAD_CONFIGS)
@pytest.mark.parametrize("dry", [False, True])
def test_refused_before_a_runner_begins(command, change, fact, dry, tmp_path, monkeypatch):
    monkeypatch.setattr("delete_mmseg.run.UnlearnRunner.from_cfg", None)  # a runner has begun a log
    status, out, error = command(change, *["--dry-run"] * dry)
    assert status == 2 and re.search(fact, error), error
    assert not out and len(error.splitlines()) == 1, out + error
    assert not (tmp_path / "run").exists()


def test_dry_run_says_four_lines_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    status, out, error = command(put(), "--dry-run")
    assert status == 0 and len(out.splitlines()) == 4 and not error.strip(), out + error
    assert not (tmp_path / "run").exists() and not list((tmp_path / "temporary").iterdir())


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_bytes(b"hello")


def bomb(path: Path) -> None:
    path.write_bytes(images.BAD["bomb.png"][0])


def smaller(path: Path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:-32])


def coloured(path: Path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_COLOR))


def with_label(value: int, kind=np.uint8):
    def write(path: Path) -> None:
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(kind)
        label[:4, :4] = value
        cv2.imwrite(str(path), label)

    return write


DAMAGE = {  # files, what is done to the first, what is said beside its name
    "label map of another size": (LABEL, smaller, "256x128 .*NAME 256x96"),
    "label map with an unknown label": (LABEL, with_label(200), "NAME .*200 .*16 pixels.* 0 to 18"),
    "label map of large numbers": (LABEL, with_label(26007, np.uint16), "NAME .*26007"),
    "label map of three channels": (LABEL, coloured, "NAME .*128, 256, 3"),
    "half a label map": (LABEL, half, "NAME .*truncated"),
    "empty label map": (LABEL, empty, "NAME .*an empty file"),
    "label map of text": (LABEL, text, "NAME "),
    "no label map": (LABEL, Path.unlink, "NAME"),
    "picture of another size": (IMAGE, smaller, "NAME .*256x96 .*256x128"),
    "half a picture": (IMAGE, half, "NAME .*truncated"),
    "empty picture": (IMAGE, empty, "NAME .*an empty file"),
    "picture of text": (IMAGE, text, "NAME "),
    "picture that is a bomb": (IMAGE, bomb, "NAME "),
}


@pytest.mark.parametrize("split", ["train", pytest.param("val", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_named(command, scenes, split, name, tmp_path):
    files, damage, fact = DAMAGE[name]
    shutil.copytree(scenes, tmp_path / "scenes")
    path = sorted((tmp_path / "scenes").glob(files.format(split)))[0]
    damage(path)
    root = str(tmp_path / "scenes")
    status, _, error = command(put(train_dataloader__dataset__data_root=root, test_dataloader__dataset__data_root=root))
    error = " ".join(error.split())
    assert status == 2 and re.search(fact.replace("NAME", path.name), error), error
    assert "1 of" in error and not (tmp_path / "run" / "erased.pth").exists()
    assert split == "train" or not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_that_is_gone_is_not_missed(command, scenes, split, tmp_path):
    shutil.copytree(scenes, tmp_path / "scenes")
    next((tmp_path / "scenes").glob(IMAGE.format(split))).unlink()
    root = str(tmp_path / "scenes")
    change = put(train_dataloader__dataset__data_root=root, test_dataloader__dataset__data_root=root)
    assert command(change, "--dry-run")[0] == 0


@pytest.mark.parametrize("copied", [False, True])
def test_test_images_that_are_trained_on_are_refused(command, scenes, copied, tmp_path):
    root = scenes
    if copied:
        root = shutil.copytree(scenes, tmp_path / "scenes")
        for path in sorted(root.glob(IMAGE.format("train")))[1:]:
            path.unlink()
    prefix = dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train")
    change = dict(test_dataloader__dataset__data_root=str(root), test_dataloader__dataset__data_prefix=prefix)
    status, _, error = command(put(**change))
    count = 1 if copied else 10
    assert status == 2 and f"{count} of {count} test images" in error, error
    assert "train_dataloader" in error and not (tmp_path / "run").exists()


def test_files_that_are_the_same(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"three")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    a, b, c, d, link = (str(tmp_path / name) for name in ("a", "b", "c", "d", "link"))
    assert same_files([a, b, d, "s3://a"], [c, link, "s3://b"]) == [a, b]
    assert same_files(["s3://a"], ["s3://a"]) == ["s3://a"] and not same_files([a], [])


def test_test_data_without_labels_are_refused(command, tmp_path):
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
    status, _, error = command(put(test_dataloader__dataset__pipeline=pipeline))
    assert status == 2 and "LoadAnnotations" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", [half, empty])
def test_images_that_the_original_is_asked_of_are_whole(command, scenes, damage, tmp_path):
    shutil.copytree(scenes, tmp_path / "scenes")
    path = sorted((tmp_path / "scenes").glob(IMAGE.format("train")))[3]
    damage(path)
    change = put(train_dataloader__dataset__data_root=str(tmp_path / "scenes"), unlearn__select="teacher")
    status, _, error = command(change)
    assert status == 2 and path.name in " ".join(error.split())
    assert not (tmp_path / "run" / "erased.pth").exists()


def test_what_fails_while_measuring_leaves_the_model_and_the_reason(command, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("a disk went away")

    monkeypatch.setattr("delete_mmseg.run.choose_images", fail)
    status, _, error = command()
    assert status == 2 and "OSError: a disk went away" in error
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["not_measured"]["rows"] == "OSError: a disk went away"
    assert (tmp_path / "run" / "erased.pth").is_file()
    assert all(figure["value"] is None for row in results["rows"].values() for figure in row.values())
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert {figure["status"] for figure in record["figures"]} == {"NOT MEASURED"}


def test_a_class_that_no_test_image_shows_is_said_and_not_measured(command, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "scenes")
    for path in (tmp_path / "scenes").glob(LABEL.format("val")):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[label == 26] = 0  # car
        cv2.imwrite(str(path), label)
    status, out, _ = command(put(test_dataloader__dataset__data_root=str(tmp_path / "scenes")), "--dry-run")
    assert status == 0 and re.search("test image.* car", out)
    assert f.forgotten_iou(torch.tensor([[5, 3], [0, 0]]), [1]) is None


@pytest.mark.parametrize("select", ["labels", "teacher"])
def test_images_that_change_are_looked_at_again(make_config, scenes, select, tmp_path):
    """What is kept of a selection, see forget_set.json, holds for these images alone."""
    shutil.copytree(scenes, tmp_path / "scenes")
    cfg = make_config("cgnet", tmp_path / "run")
    cfg.train_dataloader.dataset.data_root = str(tmp_path / "scenes")
    train = check_request(cfg).train
    data = TASK.forget_data(train)
    before = data.fingerprint(select)
    half(sorted((tmp_path / "scenes").glob(IMAGE.format("train")))[0])
    assert data.fingerprint(select) != before


# Ignore index ---------------------------------------------------------------------------------------------------------


def test_unlearning_by_the_runner_alone_refuses_the_same(make_config, scenes, tmp_path):
    """Stock train.py has no command in front of it."""
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    shutil.copytree(scenes, tmp_path / "scenes")
    with_label(77)(sorted((tmp_path / "scenes").glob(LABEL.format("train")))[0])
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    cfg.train_dataloader.dataset.data_root = str(tmp_path / "scenes")
    with pytest.raises(RequestError, match="77 on 16 pixels"):
        UnlearnRunner.from_cfg(cfg).train()
