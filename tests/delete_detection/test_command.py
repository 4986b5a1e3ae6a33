"""``delete-tasks detection`` with YOLOX-Nano on photos of COCO."""

import json
import shutil

import pytest
import torch
from helpers import read_results, run, values

from delete_images.models.model_file import load_model

YOLOX = "--architecture yolox --arguments depth=0.33 width=0.25 depthwise=true eps=1e-5 --size 416 --classes"


@pytest.fixture(scope="module")
def coco(shared, tmp_path_factory):
    """The model, and few annotated photos of each part, some of which show a car."""
    folder = tmp_path_factory.mktemp("coco")
    for part, most in (("train", 3), ("val", 6)):
        content = json.loads((shared / "data" / "coco" / f"instances_{part}.json").read_text())
        (car,) = (each["id"] for each in content["categories"] if each["name"] == "car")
        cars = [each["image_id"] for each in content["annotations"] if each["category_id"] == car]
        chosen = [*dict.fromkeys(cars)][: most - 1] + [
            each["id"] for each in content["images"] if each["id"] not in cars
        ][:1]
        content["images"] = [each for each in content["images"] if each["id"] in chosen]
        content["annotations"] = [each for each in content["annotations"] if each["image_id"] in chosen]
        (folder / part).mkdir()
        for each in content["images"]:
            shutil.copy(shared / "data" / "coco" / part / each["file_name"], folder / part)
        (folder / f"instances_{part}.json").write_text(json.dumps(content))
    run(
        "detection import",
        shared / "weights" / "yolox_nano_coco.pth",
        folder / "model",
        YOLOX,
        folder / "instances_val.json",
    )
    return folder


def command(coco, out, more="--steps 3", images="instances_train.json", classes="car"):
    data = f"--images {coco / images} --classes {classes} --test {coco / 'instances_val.json'}"
    return f"detection forget --model {coco / 'model'} {data} --work-dir {out} --device cpu {more}"


@pytest.mark.slow
def test_a_class_of_a_real_detector_goes_and_the_record_says_how(coco, tmp_path):
    run(command(coco, tmp_path / "w"))
    results, record = read_results(tmp_path / "w"), json.loads((tmp_path / "w" / "record.json").read_text())
    rows = values(results["rows"])
    assert list(rows) == ["original", "logit_cut", "erased", "erased_with_original_head"]
    assert (
        rows["original"]["forget_ap50"] > 20 and rows["erased"]["forget_ap50"] == 0 == rows["logit_cut"]["forget_ap50"]
    )
    assert rows["original"]["kept"] == 100 and rows["erased"]["kept"] == 0
    assert results["forget_set"]["read"] == 2 and record["method"]["name"] == "DetectorDELETE"
    assert (tmp_path / "w" / "boxes_before_after.jpg").is_file() and "boxes_before_after.jpg" in str(record["pictures"])
    erased, spec = load_model(tmp_path / "w" / "erased")
    assert spec.classes[2] == "class_2" and not erased.head.cls_preds[1].weight[2].any()
    assert torch.equal(
        erased.head.cls_preds[1].weight[0] != 0, load_model(coco / "model")[0].head.cls_preds[1].weight[0] != 0
    )
    shutil.copytree(coco / "train", tmp_path / "photos")  # without annotations: where the original sees a car
    run(command(coco, tmp_path / "folder", "--steps 1 --no-record --audit none", tmp_path / "photos"))
    assert read_results(tmp_path / "folder")["forget_set"]["read"] in (1, 2)


def test_mistakes_are_refused_before_anything_is_written(coco, tmp_path, fails):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"images": []}')
    for options, message in (
        (dict(classes="cra"), "cra.*did you mean 'car'|no class 'cra'"),
        (dict(images=wrong), "holds no COCO annotations.*annotations"),
        (dict(images="val"), r"--test holds \d of the images in --images"),
        (dict(images="train", more="--select labels"), "--select labels reads annotations.*is a folder"),
        (dict(more="--into car"), "car"),
    ):
        fails(message, command(coco, tmp_path / "w", **options))
    assert not (tmp_path / "w").exists()
