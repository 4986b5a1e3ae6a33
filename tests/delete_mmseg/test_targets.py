"""Classes that replace the forgotten ones: avoid, fill, --expect; a second request; data sets that shift their labels."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers import argv, read_json, read_results
from mmseg.registry import MODELS

from delete_mmseg.run import make_config as command_config
from delete_mmseg.run import run
from delete_tasks.display.terminal import make_console
from delete_tasks.errors import CheckpointMismatchError
from delete_tasks.methods.delete import DELETE

PERSON, CAR, TRUCK = 11, 13, 14
CAR_OF_ADE, TREE_OF_ADE = 20, 4


@pytest.fixture
def seen_targets(monkeypatch):
    """The teacher's logits at the head's resolution before and after, for each step."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = DELETE.target

    def target(self, teacher, inputs):
        before = teacher.clone()
        seen.append((before, plain(self, teacher, inputs)))
        return seen[-1][1]

    monkeypatch.setattr(DELETE, "target", target)
    return seen


def test_a_run_fills_the_hole_at_each_heads_own_resolution(seen_targets, train):
    train("fcn", deterministic=True, images=2, steps=1, fill="surroundings", avoid=["truck"])
    assert len(seen_targets) == 2  # with that of the auxiliary head
    for before, after in seen_targets:
        assert before.shape[2:] == (16, 32)
        changed = (before != after).any(1)
        p = before.softmax(1)
        hole = (p[:, CAR] > 0.1) & (2 * p[:, CAR] > p.index_fill(1, torch.tensor([CAR]), 0).amax(1))
        assert hole.any() and changed[hole].all() and not changed.all()
        assert (after.softmax(1)[:, TRUCK][changed] < 1e-6).all()


@pytest.mark.long
def test_a_run_goes_on_with_the_same_target_alone(train):
    train("cgnet", images=2, steps=1, keep_states=True, fill="surroundings")
    for other in ({}, {"fill": "surroundings", "avoid": ["truck"]}):
        with pytest.raises(CheckpointMismatchError, match=r"unlearn\.(fill|avoid)"):
            train("cgnet", images=2, steps=2, keep_states=True, parts={"resume": True}, **other)


@pytest.mark.long
def test_what_was_expected_and_avoided_are_figures_with_a_limit(make_config, segmentation, tmp_path, tells):
    cfg = make_config("cgnet", tmp_path / "run", images=2, steps=1)
    original = torch.load(cfg.load_from, weights_only=True)
    original["state_dict"]["decode_head.conv_seg.bias"][CAR] += 3  # an untrained network that does see cars
    torch.save(original, cfg.load_from)
    printed = tells(segmentation(cfg, "--audit none --avoid truck bus --expect road sidewalk"))
    results = read_results(tmp_path / "run")
    assert results["expected"] == ["road", "sidewalk"] and results["recipe"]["avoid"] == ["truck", "bus"]
    went = results["prediction_shares"]
    share = results["rows"]["erased"]["unexpected"]["value"]
    assert share == pytest.approx(100 - went.get("road", 0) - went.get("sidewalk", 0), abs=0.2)
    record = read_json(tmp_path, "run/record.json")
    avoided = results["rows"]["erased"]["avoided"]["value"]
    assert avoided == pytest.approx(went.get("truck", 0) + went.get("bus", 0), abs=0.2)
    assert f"Became a class to avoid (truck, bus): {avoided:.1f}%" in printed
    assert results["rows"]["logit_cut"]["misplaced"]["value"] is not None
    again = tells("record verify", tmp_path / "run", "--rerun")
    for name, value in (("unexpected", share), ("avoided", avoided)):
        (limit,) = [row for row in record["figures"] if row["name"] == name]
        assert limit["at_most"] == 10 and limit["value"] == value
    for name in ("unexpected", "avoided", "misplaced"):
        assert f"figure {name}" in again


def test_a_class_merged_into_another(make_config, segmentation, seen_targets, tmp_path, tells, publish_anyway):
    cfg = make_config("cgnet", tmp_path / "run", images=2, steps=1, parts={"test_dataloader.dataset.indices": 1})
    tells(segmentation(cfg, "--audit none --into road --avoid truck"))
    results = read_results(tmp_path / "run")
    assert results["expected"] == ["road"] and results["recipe"]["into"] == "road" and results["recipe"]["fill"] is None
    assert "Class that takes the place of the forgotten ones" in (tmp_path / "run" / "record.html").read_text()
    ((before, after),) = seen_targets
    changed = (before != after).any(1)
    assert torch.equal(changed, before.argmax(1) == CAR)


@pytest.mark.parametrize(("words", "fact"), [
    ("--into lorry", "'lorry'"), ("--into car", "into names 'car'"), ("--into road --fill second", "leave fill out"),
    ("--avoid lorry", "'lorry'"), ("--avoid car", "avoid .* car"), ("--expect rode", "'road'"),
    ("--expect car road", "--expect .* car"), ("--fill nearest", "'nearest'"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(words, fact, make_config, segmentation, tmp_path, fails):
    fails(fact, segmentation(make_config("cgnet", tmp_path / "run", steps=1), words))
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_second_request_on_an_erased_model(train, tmp_path):
    train("cgnet", "first", images=2, steps=1)
    erased = tmp_path / "first" / "erased.pth"
    assert "car" not in torch.load(erased, weights_only=True)["meta"]["dataset_meta"]["classes"]
    # Names are the data set's, so the second request has them although the model's file has lost one.
    options = dict(steps=3, optimizer=dict(type="AdamW", lr=1e-2), classes=["person"], avoid=["rider"])
    train("cgnet", "second", images=2, parts={"load_from": str(erased)}, **options)
    state = torch.load(tmp_path / "second" / "erased.pth", weights_only=True)
    assert not state["state_dict"]["decode_head.conv_seg.weight"][PERSON].any()
    assert "person" not in state["meta"]["dataset_meta"]["classes"]


@pytest.fixture
def ade_config(make_config, tmp_path):
    """``ade_config({split: labels})``: the path of an ordinary config of CGNet on images and label maps as ADE20K has them: 150
    classes, 0 is no label, and class k is written as k + 1."""

    def make(numbers):
        rng, root = np.random.default_rng(0), tmp_path / "ade"
        for split, labels in numbers.items():
            for kind in ("images", "annotations"):
                (root / kind / split).mkdir(parents=True)
            for number, label in enumerate(labels):
                stored = np.zeros((64, 96), np.uint8)
                stored[:40], stored[40:, 48:] = 3, label + 1  # sky above
                cv2.imwrite(str(root / "annotations" / split / f"{number}.png"), stored)
                picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
                cv2.imwrite(str(root / "images" / split / f"{number}.jpg"), picture)
        cfg = make_config("cgnet", tmp_path / "unused")
        load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", reduce_zero_label=True)]
        for loader, split in ((cfg.train_dataloader, "training"), (cfg.test_dataloader, "validation")):
            prefix = dict(img_path=f"images/{split}", seg_map_path=f"annotations/{split}")
            data = dict(type="ADE20KDataset", data_root=str(root), data_prefix=prefix)
            loader.dataset = dict(**data, pipeline=[*load, dict(type="PackSegInputs")])
        cfg.model.decode_head.num_classes = 150
        cfg.model.data_preprocessor.size = (64, 96)
        torch.manual_seed(0)
        torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "ade.pth")
        cfg.dump(tmp_path / "config.py")
        return str(tmp_path / "config.py")

    return make


@pytest.mark.long
def test_a_data_set_that_reduces_the_zero_label(ade_config, tmp_path):
    config = ade_config({"training": [CAR_OF_ADE, TREE_OF_ADE, CAR_OF_ADE], "validation": [CAR_OF_ADE, TREE_OF_ADE]})
    options = {"steps": 1, "fill": "surroundings"}
    cfg = command_config(config, str(tmp_path / "ade.pth"), ["car"], str(tmp_path / "run"), options)
    cfg.record = {"audit": "none", "skip": True}
    results = run(cfg, make_console())
    assert results["forget_set"]["read"] == 2 and results["forget_set"]["available"] == 3
    counts = results["details"]["test_set"]
    assert counts["images_with_forgotten"] == 1
    assert counts["forgotten_pixels"] == 24 * 48 and counts["pixels"] == 2 * (40 * 96 + 24 * 48)


@pytest.mark.long
def test_figures_of_many_images_and_classes_take_no_more_memory(ade_config, tmp_path):
    peaks = []
    config = ade_config({"training": [CAR_OF_ADE] * 2, "validation": [CAR_OF_ADE, TREE_OF_ADE] * 250})
    for images in (20, 500):
        work_dir = tmp_path / str(images)
        words = argv("segmentation", config, "--checkpoint", tmp_path / "ade.pth", "--work-dir", work_dir)
        words += argv("--classes car --steps 1 --audit none --no-record --cfg-options")
        words += [f"test_dataloader.dataset.indices={images}"]
        subprocess.run([sys.executable, "-m", "delete_tasks", *words], check=False, capture_output=True, timeout=600)
        results = read_results(work_dir)
        assert results["details"]["test_set"]["images"] == images
        peaks.append(results["peak_memory_mb"])
    # One image's logits of the original take 3.7 MB: 480 of them would be 1.8 GB.
    assert peaks[1] < peaks[0] + 60
