"""The command on a small backdoored network: with a retain set, in strict mode, and every refusal."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from delete_backdoor.datasets import BackdoorDataset
from delete_images.models.model_file import WEIGHTS_NAME, load_model
from delete_images.opened import predict_images as real
from delete_tasks.cli import main
from delete_tasks.evaluation.reader import read as real

TRIGGER = "badnets:size=4,pos=11,11"


def clean(toy, files, work_dir, *more, **changed) -> int:
    words = {
        "--model": str(toy),
        "--poisoned": files["only"],
        "--work-dir": str(work_dir),
        "--device": "cpu",
        **changed,
    }
    return main(["backdoor", "clean", *[part for pair in words.items() if pair[1] for part in pair], *more])


@pytest.fixture(scope="module")
def done(toy, files, tmp_path_factory):
    """One run with everything asked for; the target is left to be guessed."""
    folder = tmp_path_factory.mktemp("clean")
    changed = {
        "--retain": files["clean"],
        "--test": files["test"],
        "--trigger": TRIGGER,
        "--steps": "60",
        "--lr": "3e-3",
    }
    assert clean(toy, files, folder, "--compare", **changed) == 0
    return folder, json.loads((folder / "results.json").read_text())


def values(row: dict) -> dict:
    return {name: figure["value"] for name, figure in row.items()}


def test_results(done):
    _, results = done
    rows, details = {name: values(row) for name, row in results["rows"].items()}, results["details"]
    assert list(rows) == ["original", "logit_cut", "fine_tune", "erased_strict", "erased"]
    assert results["forgotten"] == ["red"]
    assert rows["original"]["asr"] > 95 and rows["original"]["acc"] > 90
    assert rows["logit_cut"]["asr"] == 0 and rows["logit_cut"]["target_acc"] == 0
    cleaned = rows["erased"]
    assert cleaned["asr"] < 5 and cleaned["acc"] > rows["original"]["acc"] - 5 and cleaned["ra"] > 30
    assert details["verdict"] == details["runs"]["erased"]["verdict"] == "cleaned" and results["published"]
    assert [results["rows"]["original"][name]["count"] for name in ("acc", "asr", "ra", "base")] == [400, 300, 300, 300]
    assert rows["fine_tune"]["asr"] > cleaned["asr"] and details["runs"]["erased_strict"]["verdict"] in (
        "cleaned", "damaged", "not cleaned")  # fmt: skip
    columns = {metric["column"]: metric["title"] for metric in results["metrics"] if metric["column"]}
    assert set(columns) == {"ACC", "ASR", "base", "RA", "target acc", "worst drop", "NLL", "ECE"} and all(
        columns.values()
    )
    readings = details["watch"]["readings"]
    assert (
        readings[0]["to_target"] == 100
        and readings[-1]["to_target"] <= 5
        and readings[-1]["step"] == results["steps"] == 60
    )
    counts = details["samples"]
    assert counts["poisoned"] + counts["held_poisoned"] + counts["left_out"] == 180 and counts["held_retain"] == 48


def test_the_audit_reads_whether_an_image_has_the_trigger(done):
    """Of 300 held-out images that are not of the target, with the trigger and without it, attacks are trained on a third."""
    audit = done[1]["audit"]
    assert audit["trained_on"] == "a third of the held-out samples"
    probe = {name: row["linear_probe"] for name, row in audit["rows"].items()}
    assert probe["original"]["count"] == 200 and probe["original"]["value"] > 90
    assert probe["original"]["details"]["trained_on"] == 3 * 33 + 100  # three classes, and those with the trigger
    assert audit["verdict"]["word"] in ("weakened", "hidden") and (done[0] / "tsne.png").is_file()


def test_the_cleaned_model_is_whole_and_keeps_its_classes(done, toy):
    folder, _ = done
    network, spec = load_model(folder / "cleaned")
    original, before = load_model(toy)
    assert spec == before
    state = original.state_dict()
    assert any(not torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not (folder / "erased").exists() and not (folder / "erased.pth").exists()


def test_picture_and_words(done):
    from PIL import Image

    from delete_backdoor.report import lines_of

    folder, results = done
    with Image.open(folder / "backdoor.png") as picture:
        assert picture.width > 1000
    text = "\n".join(lines_of(results))
    assert "ASR: triggered test images that are predicted as the target" in text
    assert "Verdict: cleaned" in text


def test_strict_mode_writes_only_what_its_watch_calls_cleaned(toy, files, tmp_path):
    status = clean(toy, files, tmp_path, **{"--target": "#0"})
    results = json.loads((tmp_path / "results.json").read_text())
    assert status == (0 if results["published"] else 4)
    details = results["details"]
    assert details["samples"]["strict"] and details["samples"]["retain"] > 50
    assert (tmp_path / "cleaned").exists() == results["published"] == (details["verdict"] == "cleaned")
    assert details["runs"]["erased"]["steps"] <= 100 and "erased_strict" not in results["rows"]
    assert set(values(results["rows"]["original"]).values()) == {None}
    assert results["rows"]["original"]["asr"]["note"] == "no test images were given (--test)"


def test_a_ruined_model_is_damaged_and_not_written_unless_forced(toy, files, tmp_path, capsys):
    ruin = {"--target": "red", "--lr": "1.0", "--steps": "6", "--retain": files["clean"]}
    assert clean(toy, files, tmp_path, **ruin) == 4
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["details"]["verdict"] == "damaged" and not results["published"]
    assert not (tmp_path / "cleaned").exists() and not list(tmp_path.glob("*.pth"))
    assert "--force writes the model all the same" in (said := " ".join(capsys.readouterr().out.split()))
    assert "The model is NOT written: its own watch calls the model damaged" in said
    assert clean(toy, files, tmp_path, "--force", **ruin) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["details"]["verdict"] == "damaged" and results["published"]
    assert (tmp_path / "cleaned" / "model.json").is_file()


def test_too_few_steps_is_not_cleaned(toy, files, tmp_path):
    assert (
        clean(toy, files, tmp_path, **{"--target": "red", "--lr": "1e-7", "--steps": "2", "--retain": files["clean"]})
        == 4
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["details"]["verdict"] == "not cleaned" and not (tmp_path / "cleaned").exists()


def test_the_guessed_target_is_said(toy, files, tmp_path, capsys):
    assert clean(toy, files, tmp_path, "--force", **{"--steps": "1", "--retain": files["clean"]}) in (0, 4)
    assert "No --target given: taking 'red', as which the model predicts" in capsys.readouterr().out


@pytest.fixture(scope="module")
def odd(files, tmp_path_factory):
    """Files that are not what they should be, by the word that stands for them below."""
    folder = tmp_path_factory.mktemp("odd")
    with np.load(files["only"]) as file:
        x, names = file["x"], file["classes"]
    with np.load(files["test"]) as file:
        test, labels = file["x"], file["y"]
    large = np.repeat(np.repeat(x[:20], 2, 1), 2, 2)
    np.savez(folder / "large.npz", x=large, y=np.arange(20) % 4, classes=names)
    np.savez(folder / "unmarked.npz", x=x, y=np.zeros(len(x), int), classes=names)
    np.savez(folder / "permuted.npz", x=test, y=(labels + 1) % 4, classes=names)
    np.savez(folder / "truth.npz", x=x, y=np.zeros(len(x), int), classes=names, poisoned=np.ones(3, bool))
    np.save(folder / "small.npy", np.ones((4, 4, 3)))
    return {"LARGE": str(folder / "large.npz"), "UNMARKED": str(folder / "unmarked.npz"), "CLEAN": files["clean"],
            "TEST": files["test"], "ONLY": files["only"], "PERMUTED": str(folder / "permuted.npz"),
            "TRUTH": str(folder / "truth.npz"), "SMALL": str(folder / "small.npy")}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--target": "purple"}, "knows no class 'purple'"),
        ({"--target": "#9"}, r"class id 9 is outside 0\.\.3"),
        ({"--poisoned": "nowhere.npz"}, "no data at"),
        ({"--poisoned": "ONLY?limit=3"}, r"3 poisoned sample\(s\) given; expected 5 or more"),
        ({"--poisoned": "CLEAN?without=red"}, "poisoned samples are not predicted as the target 'red'.*--force"),
        ({"--poisoned": "TRUTH"}, "an array 'poisoned' of shape .3,. .*expected one boolean for each image"),
        ({"--target": "green"}, "are not predicted as the target 'green'.*another: give --target"),
        ({"--retain": "UNMARKED"}, "samples of --retain are predicted as the target 'red': they look poisoned"),
        ({"--poisoned": "LARGE"}, r"poisoned images are 32x32 pixels with 3 channel\(s\) .*the model takes 16x16"),
        ({"--retain": "LARGE"}, "retain images are 32x32"),
        ({"--retain": "CLEAN?limit=1"}, "a retain set needs 2 images"),
        ({"--trigger": "grid"}, "--trigger says how test images are attacked"),
        ({"--test": "CLEAN", "--retain": "CLEAN"}, "240 images of --test are among those used to clean or set aside"),
        ({"--test": "ONLY", "--retain": "CLEAN"}, "shows nothing but the target class 'red'"),
        ({"--test": "TEST?without=red", "--retain": "CLEAN"}, "shows no image of the target class 'red'"),
        ({"--test": "TEST?label=none", "--retain": "CLEAN"}, "400 of 400 images in .* have no label"),
        ({"--test": "LARGE", "--trigger": "grid", "--retain": "CLEAN"}, "the test images are 32x32"),
        ({"--test": "PERMUTED", "--retain": "CLEAN"}, "no more than chance: its classes are in another order"),
        (
            {"--test": "TEST", "--trigger": "l0:image=SMALL", "--retain": "CLEAN"},
            "is 4x4 pixels and the samples are 16x16",
        ),
        (
            {"--test": "TEST", "--trigger": "badnets:pos=15,15", "--retain": "CLEAN"},
            "does not fit into an image of 16x16",
        ),
        ({"--model": ""}, "--model missing: give --model and --poisoned, or --config"),
        ({"--model": "nowhere"}, "'nowhere' is not a model"),
        ({"--held-out": "1"}, "--held-out: expected a"),
        ({"--held-out": "nan"}, "--held-out: expected a"),
        ({"--mix": "nan"}, "--mix: expected a"),
        ({"--retain-each": "-1"}, "--retain-each: expected a"),
        ({"--views": "0"}, "--views: expected a"),
        ({"--trigger-patches": "inf"}, "--trigger-patches: expected a"),
        ({"--seed": "-1"}, "--seed: expected a"),
        ({"--lr": "nan"}, "--lr: expected a"),
        ({"--lr": "-1"}, "--lr: expected a"),
        ({"--teacher-temperature": "0"}, "--teacher-temperature: expected a"),
        ({"--temperature": "inf"}, "--temperature: expected a"),
        ({"--steps": "0"}, "--steps: expected a"),
        ({"--steps": "100000000000"}, "--steps: expected a"),
        ({"--batch-size": "-5"}, "--batch-size: expected a"),
    ],
)
def test_refused_with_the_reason_before_anything_is_written(toy, files, odd, tmp_path, capsys, changed, message):
    changed = {"--target": "red", **changed}
    for word, path in odd.items():
        changed = {key: value.replace(word, path) for key, value in changed.items()}
    assert clean(toy, files, tmp_path / "w", **changed) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error
    assert not (tmp_path / "w").exists()


def test_a_comparison_that_has_nothing_to_compare(toy, files, tmp_path, capsys):
    for more in ({}, {"--retain": files["clean"] + "?label=none"}):
        assert clean(toy, files, tmp_path / "w", "--compare", **more) == 2
        assert re.search("give --retain, too|these samples have none; give labels", capsys.readouterr().err)
        assert not (tmp_path / "w").exists()


def test_test_images_are_compared_with_all_that_is_used(toy, files, tmp_path, capsys):
    """With the retain samples that are only watched, too, and with poisoned ones under the trigger they contain."""
    with np.load(files["clean"]) as file, np.load(files["test"]) as test:
        clean_x, clean_y, names = file["x"], file["y"], file["classes"]
        x, y = test["x"], test["y"]
    held = BackdoorDataset(
        files["only"], str(toy), "red", str(toy / WEIGHTS_NAME), files["clean"], force=True
    ).held_retain
    place = int(held.names[0].rpartition("/")[2])
    one = {"x": np.concatenate([x, clean_x[place : place + 1]]), "y": np.append(y, clean_y[place])}
    np.savez(tmp_path / "held.npz", **one, classes=names)
    poisoned = [
        "--data",
        files["test"] + "?without=red&limit=40",
        "--trigger",
        TRIGGER,
        "--target",
        "red",
        "--rate",
        "1",
    ]
    assert main(["backdoor", "poison", *poisoned, "--out", str(tmp_path / "p.npz")]) == 0
    common = {"--retain": files["clean"], "--target": "red"}
    capsys.readouterr()
    assert clean(toy, files, tmp_path / "w", **common, **{"--test": str(tmp_path / "held.npz")}) == 2
    assert "1 images of --test are among those used to clean or set aside (test/00400)" in capsys.readouterr().err
    attacked = {"--poisoned": str(tmp_path / "p.npz"), "--test": files["test"]}
    assert clean(toy, files, tmp_path / "w", **common, **attacked, **{"--trigger": TRIGGER}) == 2
    assert "of --test are among those used to clean or set aside" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_an_earlier_result_stays_where_a_request_is_refused(toy, files, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    assert clean(toy, files, tmp_path, **{"--target": "green"}) == 2
    assert (tmp_path / "results.json").read_text() == "{}" and len(list(tmp_path.iterdir())) == 1


def test_every_evaluation_is_tried_before_the_first_step(toy, files, tmp_path, monkeypatch):
    """Both test sets are read in whole by the original before a runner exists."""
    seen = []
    monkeypatch.setattr(
        "delete_tasks.evaluation.opened.read",
        lambda models, samples, title, stages: (seen.append(title), real(models, samples, title, stages))[1],
    )
    monkeypatch.setattr("delete_backdoor.clean.UnlearnRunner.from_cfg", lambda *_: pytest.fail(f"after {seen}"))
    changed = {"--retain": files["clean"], "--test": files["test"], "--trigger": TRIGGER, "--target": "red"}
    with pytest.raises(pytest.fail.Exception, match=r"after .'original: test', 'original: triggered'"):
        clean(toy, files, tmp_path, **changed)


def break_evaluation(monkeypatch):
    def fail(models, samples, title, stages):
        return real(models, samples, title, stages) if "original" in models else 1 / 0

    monkeypatch.setattr("delete_tasks.evaluation.opened.read", fail)


def break_picture(monkeypatch):
    monkeypatch.setattr("delete_backdoor.clean.draw", lambda *_: 1 / 0)


def break_comparison(monkeypatch):
    monkeypatch.setattr("delete_tasks.methods.fine_tune.FineTune.location_loss", lambda *_: 1 / 0)


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        (break_evaluation, {"erased", "fine_tune", "erased_strict"}),
        (break_picture, {"backdoor.png"}),
        (break_comparison, {"fine_tune"}),
    ],
)
@pytest.mark.usefixtures("publish_anyway")
def test_what_fails_while_measuring_costs_nothing_else(toy, files, tmp_path, monkeypatch, capsys, broken, missing):
    broken(monkeypatch)
    changed = {"--retain": files["clean"], "--test": files["test"], "--steps": "2", "--target": "red"}
    assert clean(toy, files, tmp_path, "--compare", "--force", **changed) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["not_measured"]) == missing
    assert results["not_measured"][min(missing)] == "ZeroDivisionError: division by zero"
    assert (tmp_path / "cleaned" / "weights.safetensors").is_file() and results["published"]
    assert results["details"]["verdict"] and results["rows"]["original"]["acc"]["value"] > 90
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Not measured: {min(missing)}, because ZeroDivisionError: division by zero." in shown
    record = json.loads((tmp_path / "record.json").read_text())
    status = {figure["name"]: figure["status"] for figure in record["figures"]}
    assert (status["acc_drop"] == "NOT MEASURED") == (broken is break_evaluation)


def test_no_poisoned_sample(toy, files, tmp_path, capsys):
    np.savez(tmp_path / "none.npz", x=np.zeros((9, 16, 16, 3), np.uint8), y=np.zeros(9, int), poisoned=np.zeros(9, bool),
             classes=np.array(["red", "green", "blue", "grey"]))  # fmt: skip
    assert clean(toy, files, tmp_path / "w", **{"--poisoned": str(tmp_path / "none.npz"), "--target": "red"}) == 2
    assert "marks none of its samples as poisoned" in capsys.readouterr().err


def test_the_script_is_the_command(repository, tmp_path):
    words = [sys.executable, str(repository / "tools/defend_backdoor.py"), "--work-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "missing: give --model" in done.stderr
