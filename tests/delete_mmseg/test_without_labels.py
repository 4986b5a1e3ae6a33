"""Runs without annotations compare with the original's predictions; erased models of other runs are measured as a run's own."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers import argv, read_json, read_results, run, values

from delete_mmseg import TASK
from delete_mmseg.checks import check_data, check_request
from delete_tasks.evaluation import ConfusionState, Evaluation
from delete_tasks.evaluation import functional as f

IMAGES = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]


def test_figures_are_of_the_originals_predictions():
    """By hand: of eight pixels the original calls two class 2, one of which stays; of the other six one changes."""
    original = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2]])
    erased = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 0]])
    state = ConfusionState(3, [2], labelled=False)
    state.update(torch.nn.functional.one_hot(erased, 3).permute(2, 0, 1).float(), original, erased)
    evaluation = Evaluation(TASK.metrics, [2], ["road", "sky", "car"])
    counts = state.compute()
    for row, count in zip(("original", "erased", "logit_cut"), (counts[0], *counts), strict=True):
        evaluation.add(row, {"test": count})
    rows = {row: {name: figure.value for name, figure in figures.items()} for row, figures in evaluation.rows.items()}
    assert rows["erased"]["agreement"] == rows["logit_cut"]["agreement"] == f.percent(5, 6)
    assert (rows["erased"]["still_assigned"], rows["logit_cut"]["still_assigned"]) == (50.0, 0.0)
    assert evaluation.rows["erased"]["still_assigned"].count == 1
    for name in ("forget_iou", "others_miou", "miou", "others_drop"):
        assert rows["erased"][name] is None and "no labels" in evaluation.rows["erased"][name].note


@pytest.fixture
def blind(scenes, tmp_path) -> Path:
    """The scenes without any label map."""
    shutil.copytree(scenes / "leftImg8bit", tmp_path / "blind" / "leftImg8bit")
    return tmp_path / "blind"


TRAIN, TEST = (f"{split}_dataloader.dataset.data_root" for split in ("train", "test"))
CASES = {  # parts of the config to change or, if None, to leave out; select; words of the notes
    "test": ({TEST: "blind"}, "labels", ["test images have no labels (there is no label map, e.g. "]),
    "pipeline": ({"test_dataloader.dataset.pipeline": IMAGES}, "labels", ["no LoadAnnotations"]),
    "training": ({TRAIN: "blind"}, "teacher", ["training images have no labels"]),
    "no test set": ({"test_dataloader": None}, "labels", ["the figures are of images of the forget set"]),
    "neither": ({TRAIN: "blind", TEST: "blind"}, "teacher", ["test images", "training images"]),
}  # fmt: skip


@pytest.fixture
def config(make_config, blind, tmp_path):
    def config(parts, **unlearn):
        cfg = make_config("cgnet", tmp_path / "run", steps=1, **unlearn)
        cfg.merge_from_dict({name: str(blind) if value == "blind" else value for name, value in parts.items() if value})
        for name in [name for name, value in parts.items() if value is None]:
            cfg.pop(name)
        return cfg

    return config


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "neither" else pytest.mark.long) for n in CASES])
def test_a_request_without_labels_is_accepted_and_said(name, config):
    parts, select, words = CASES[name]
    checked = check_request(config(parts))
    notes = check_data(checked)
    assert checked.cfg.unlearn.get("select", "labels") == select
    assert all(any(word in note for note in notes) for word in words) and len(notes) == len(words)
    assert checked.opened.labelled == (name == "training")


def test_labels_that_the_user_asks_for_are_required(config, fails, segmentation):
    cfg = config({TRAIN: "blind"}, select="labels")
    fails("no label map for .*select='teacher'", segmentation(cfg, "--dry-run"))


@pytest.mark.long
@pytest.mark.parametrize("images", ["test", "forget"])
def test_a_run_without_labels(images, shared, repository, monkeypatch, tmp_path, tells, publish_anyway):
    """CGNet on CamVid without label maps, on two test images and, without test data, on three images of the forget set."""
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    parts = ["log_level=WARNING", *(["test_dataloader=None", "val_dataloader=None"] if images == "forget" else [])]
    for split, count in (("train", 3), ("test", 2))[: 2 if images == "test" else 1]:
        changes = "num_workers=0", "persistent_workers=False", "dataset.data_prefix.seg_map_path=none"
        parts += [f"{split}_dataloader.{change}" for change in (*changes, f"dataset.indices={count}")]
    words = argv("segmentation", repository / "configs/segmentation/cgnet_camvid_forget-car.py", "--checkpoint")
    words += argv(shared / "weights/cgnet_camvid11_mmseg.pth")
    words += argv("--steps 2 --batch-size 1 --avoid pedestrian --work-dir")
    said = tells(words, tmp_path / "run", "--cfg-options", parts)
    results, record = (read_json(tmp_path, "run", file) for file in ("results.json", "record.json"))
    count = 2 if images == "test" else 3
    assert f"{count} {images} images without labels" in said and "agreement" in said
    rows, described = values(results["rows"]), results["data"]["test"]
    assert rows["original"]["agreement"] == rows["original"]["still_assigned"] == rows["logit_cut"]["agreement"] == 100
    assert rows["logit_cut"]["still_assigned"] == rows["erased"]["still_assigned"] == 0
    assert 0 < rows["erased"]["agreement"] < 100
    assert rows["erased"]["forget_iou"] is None and rows["erased"]["avoided"] is not None
    assert sum(results["prediction_shares"].values()) == pytest.approx(100, abs=0.1)
    assert described == record["measured_on"] and described.endswith("without labels") and str(count) in described
    assert results["done"]["selected_by"] == "teacher" and (tmp_path / "run" / "before_after.png").is_file()
    assert [bar["name"] for bar in record["before_after"]] == ["still_assigned"]
    assert "labelled data" in record["verdict"]["sentence"]
    assert "OK figure misplaced" in tells("record verify --rerun", tmp_path / "run")


@pytest.mark.long
def test_no_evaluate_measures_nothing(config, segmentation, tmp_path, tells, publish_anyway):
    """Not even the folder of the test data need be there; the erased model can be measured later."""
    cfg = config({TEST: "nowhere"})
    said = tells(segmentation(cfg, "--no-evaluate"))
    results = read_results(tmp_path / "run")
    measured = {name for name, figure in results["rows"]["erased"].items() if figure["value"] is not None}
    assert measured <= {"still_predicted"} and results["audit"] is None and "(--no-evaluate)" in said
    record = read_json(tmp_path, "run", "record.json")
    assert record["measured_on"] is None and "--no-evaluate" in record["measurement_note"]
    assert not (tmp_path / "run" / "before_after.png").exists()


@pytest.mark.long
def test_an_erased_model_of_train_py_is_measured(make_config, train, tmp_path, tells, fails, publish_anyway):
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    runner = train(cfg)
    cfg.dump(tmp_path / "config.py")
    words = argv("segmentation evaluate", tmp_path / "config.py", "--original", cfg.load_from, "--erased")
    said = tells(words, tmp_path / "run" / "erased.pth", "--work-dir", tmp_path / "W")
    results, record = (read_json(tmp_path, "W", file) for file in ("results.json", "record.json"))
    assert results["done"] == record["done"] == runner.outcome.done and "1 training step" in said
    assert results["rows"]["erased"]["forget_iou"]["value"] is not None and results["audit"]["level"] == "quick"
    assert (tmp_path / "W" / "samples.txt").read_text().count("forget set\t") == record["samples"]["read"]["forget set"]
    run("record verify --rerun", tmp_path / "W")
    # Elsewhere, what was done is not known, and nothing is made up.
    copy = shutil.copy(tmp_path / "run" / "erased.pth", tmp_path / "erased.pth")
    assert "Done: Not known" in tells(words, copy, "--work-dir", tmp_path / "X", "--audit none")
    record = read_json(tmp_path, "X", "record.json")
    assert record["done"] is None and record["seeds"]["run"] is None and record["method"]["name"] == "not known"
    assert record["samples"]["read"] == {} and record["forget_check"] is None
    assert "Not known: another program" in (tmp_path / "X" / "record.html").read_text()
    run("record verify", tmp_path / "X")
    assert "Not measured on" not in tells("compare", tmp_path / "W", tmp_path / "X")
    shutil.copy(cfg.load_from, tmp_path / "same.pth")
    for erased, words_of_class, fact in (
        (tmp_path / "same.pth", [], "hold the same tensors"),
        (copy, ["--classes", "cra"], "'cra'.*'car'"),
    ):
        fails(fact, words, erased, "--work-dir", tmp_path / "Y", words_of_class)
    assert not (tmp_path / "Y").exists()
