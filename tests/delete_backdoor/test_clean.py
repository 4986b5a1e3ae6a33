"""The command on a small backdoored network: with clean samples, in strict mode, and every refusal."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from delete_backdoor.clean import ROWS
from delete_images.model_file import load_model
from delete_tasks.cli import main

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
        "--clean": files["clean"],
        "--eval": files["test"],
        "--trigger": TRIGGER,
        "--steps": "60",
        "--lr": "3e-3",
    }
    assert clean(toy, files, folder, "--compare", **changed) == 0
    return folder, json.loads((folder / "results.json").read_text())


def test_results(done):
    _, results = done
    rows = results["rows"]
    assert list(rows) == list(ROWS) and results["target"] == "red"
    assert rows["original"]["asr"] > 95 and rows["original"]["acc"] > 90
    assert rows["logit_cut"]["asr"] == 0 and rows["logit_cut"]["target_acc"] == 0
    cleaned = rows["erased_with_clean"]
    assert cleaned["asr"] < 5 and cleaned["acc"] > rows["original"]["acc"] - 5 and cleaned["ra"] > 30
    assert results["verdict"] == cleaned["verdict"] == "cleaned" and results["written"]
    assert rows["original"]["images"] == {"clean": 400, "triggered": 300}
    assert rows["fine_tune"]["asr"] > cleaned["asr"] and rows["erased_strict"]["verdict"] in (
        "cleaned", "damaged", "not cleaned")  # fmt: skip
    assert set(results["definitions"]) == {"ACC", "ASR", "base", "RA", "target acc", "worst drop"}
    readings = results["watch"]["readings"]
    assert (
        readings[0]["to_target"] == 100
        and readings[-1]["to_target"] <= 5
        and readings[-1]["step"] == results["steps"] == 60
    )
    counts = results["samples"]
    assert counts["poisoned"] + counts["held_poisoned"] + counts["left_out"] == 180 and counts["held_clean"] == 48


def test_the_cleaned_model_is_whole_and_keeps_its_classes(done, toy):
    folder, _ = done
    network, spec = load_model(folder / "cleaned")
    original, before = load_model(toy)
    assert spec == before
    state = original.state_dict()
    assert any(not torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not (folder / "erased").exists() and not (folder / "erased.pth").exists()


def test_picture_and_words(done, capsys):
    from PIL import Image
    from rich.console import Console

    from delete_backdoor.report import show

    folder, results = done
    with Image.open(folder / "backdoor.png") as picture:
        assert picture.width > 1000
    show(results, Console(width=140))
    text = capsys.readouterr().out
    assert "share of triggered test images not of the target class that are predicted as the target" in text
    assert "Verdict: cleaned" in text


def test_strict_mode_writes_only_what_its_watch_calls_cleaned(toy, files, tmp_path, capsys):
    assert clean(toy, files, tmp_path, **{"--target": "#0"}) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["samples"]["strict"] and results["samples"]["clean"] > 50
    assert (tmp_path / "cleaned").exists() == results["written"] == (results["verdict"] == "cleaned")
    assert results["rows"]["erased_strict"]["steps"] <= 100 and results["rows"]["erased_with_clean"] is None
    assert results["rows"]["original"] == {} and "-" in capsys.readouterr().out


def test_a_ruined_model_is_damaged_and_not_written_unless_forced(toy, files, tmp_path, capsys):
    ruin = {"--target": "red", "--lr": "1.0", "--steps": "6", "--clean": files["clean"]}
    assert clean(toy, files, tmp_path, **ruin) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdict"] == "damaged" and not results["written"]
    assert not (tmp_path / "cleaned").exists() and not list(tmp_path.glob("*.pth"))
    assert "The model is NOT written; --force" in capsys.readouterr().out
    assert clean(toy, files, tmp_path, "--force", **ruin) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdict"] == "damaged" and results["written"] and (tmp_path / "cleaned" / "model.json").is_file()


def test_too_few_steps_is_not_cleaned(toy, files, tmp_path):
    assert (
        clean(toy, files, tmp_path, **{"--target": "red", "--lr": "1e-7", "--steps": "2", "--clean": files["clean"]})
        == 0
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdict"] == "not cleaned" and not (tmp_path / "cleaned").exists()


def test_the_guessed_target_is_said(toy, files, tmp_path, capsys):
    assert clean(toy, files, tmp_path, **{"--steps": "1", "--clean": files["clean"]}) == 0
    assert "No --target given: taking 'red', as which the model predicts" in capsys.readouterr().out


@pytest.fixture(scope="module")
def odd(files, tmp_path_factory):
    """Files that are not what they should be."""
    folder = tmp_path_factory.mktemp("odd")
    with np.load(files["only"]) as file:
        x, names = file["x"], file["classes"]
    np.savez(folder / "large.npz", x=np.repeat(np.repeat(x[:20], 2, 1), 2, 2), y=np.zeros(20, int), classes=names)
    np.savez(folder / "unmarked.npz", x=x, y=np.zeros(len(x), int), classes=names)
    return {"LARGE": str(folder / "large.npz"), "UNMARKED": str(folder / "unmarked.npz"), "CLEAN": files["clean"],
            "TEST": files["test"], "ONLY": files["only"]}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--target": "purple"}, "knows no class 'purple'"),
        ({"--target": "#9"}, r"class id 9 is outside 0\.\.3"),
        ({"--poisoned": "nowhere.npz"}, "no data at"),
        ({"--poisoned": "ONLY?limit=3"}, r"3 poisoned sample\(s\) given; expected 5 or more"),
        ({"--poisoned": "CLEAN?without=red"}, "poisoned samples are not predicted as the target 'red'.*--force"),
        ({"--target": "green"}, "are not predicted as the target 'green'.*another: give --target"),
        ({"--clean": "UNMARKED"}, "clean samples are predicted as the target 'red': they look poisoned"),
        ({"--poisoned": "LARGE"}, r"poisoned images are 32x32 pixels with 3 channel\(s\), and the model takes 16x16"),
        ({"--clean": "LARGE"}, "clean images are 32x32"),
        ({"--clean": "CLEAN?limit=1"}, "a clean set needs 2 images"),
        ({"--trigger": "grid"}, "--trigger says how test images are attacked"),
        ({"--eval": "CLEAN", "--clean": "CLEAN", "--steps": "1"}, "of --eval are among those used to clean"),
        ({"--model": ""}, "--model missing: give --model and --poisoned, or --config"),
        ({"--model": "nowhere"}, "'nowhere' is not a model"),
        ({"--held": "1"}, "expected held between 0 and 1"),
    ],
)
def test_refused_with_the_reason(toy, files, odd, tmp_path, capsys, changed, message):
    import re

    changed = {"--target": "red", **changed}
    for word, path in odd.items():
        changed = {key: value.replace(word, path) for key, value in changed.items()}
    assert clean(toy, files, tmp_path, **changed) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "cleaned").exists()


def test_no_poisoned_sample(toy, files, tmp_path, capsys):
    np.savez(tmp_path / "none.npz", x=np.zeros((9, 16, 16, 3), np.uint8), y=np.zeros(9, int), poisoned=np.zeros(9, bool),
             classes=np.array(["red", "green", "blue", "grey"]))  # fmt: skip
    assert clean(toy, files, tmp_path / "w", **{"--poisoned": str(tmp_path / "none.npz"), "--target": "red"}) == 2
    assert "marks none of its samples as poisoned" in capsys.readouterr().err


def test_the_script_is_the_command(repository, tmp_path):
    words = [sys.executable, str(repository / "tools/defend_backdoor.py"), "--work-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "missing: give --model" in done.stderr
