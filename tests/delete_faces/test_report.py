"""Figures, output and files of ``faces remove``."""

import io
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import read_json, read_results, run
from rich.console import Console
from rich.text import Text

from delete_faces.checks import check_far, read_far
from delete_faces.metrics import METRICS
from delete_faces.network import build_head
from delete_faces.photos import frame_photos
from delete_faces.picture import caption
from delete_faces.report import answer, lines_of, match_pairs
from delete_images.data.opening import ImageData
from delete_images.models.model_file import load_model
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Measured, Predictions
from delete_tasks.evaluation.functional import paired
from delete_tasks.report.finish import notes, show_rows

GONE = "Colin_Powell"
ONE_STEP = "--steps 1 --audit none"


def fail(error: Exception):
    return Mock(side_effect=error)


@pytest.mark.usefixtures("publish_anyway")
def test_one_folder_for_both_is_divided_before_faces_are_detected(removal, faces, tmp_path, capsys, monkeypatch):
    printed: list[str] = []

    def frame(*args, **options):
        printed.append(capsys.readouterr().out)
        return frame_photos(*args, **options)

    monkeypatch.setattr("delete_faces.remove.frame_photos", frame)
    run(removal(tmp_path, ONE_STEP, "--no-record --test", faces / "train"))
    assert "2 of 5" in printed[0] and "seed 0" in printed[0]
    results = read_results(tmp_path)
    details = results["details"]
    assert details["held_out"] == {"photos": 37, "of_removed_people": 2} and results["forget_set"]["read"] == 3
    assert results["rows"]["original"]["identified"]["value"] is not None
    assert details["verification"]["original"]["removed_pairs"] == 1
    assert details["photos"]["divided"] and details["photos"]["in_eval_too"] == 0


@pytest.mark.usefixtures("publish_anyway")
def test_photos_to_forget_are_left_out_and_failing_parts_cost_no_figure(removal, faces, tmp_path, tells, monkeypatch):
    """If --test holds other photos of the person as well, all of --photos are forgotten."""
    monkeypatch.setattr("delete_faces.remove.draw_people", fail(ZeroDivisionError()))
    monkeypatch.setattr("delete_faces.remove.head_only", fail(ArithmeticError()))
    for split in ("train", "test"):
        shutil.copytree(faces / split, tmp_path / "all", dirs_exist_ok=True)
    printed = tells(removal(tmp_path / "w", ONE_STEP, "--no-record --test", tmp_path / "all"))
    assert "Left out: 5 of 88 samples of --test" in printed
    assert all(part in printed for part in ("before_after.png", "ZeroDivisionError", "head_only", "ArithmeticError"))
    results = read_results(tmp_path / "w")
    assert results["details"]["held_out"] == {"photos": 83, "of_removed_people": 6}
    assert "head_only" not in results["rows"] and results["rows"]["erased"]["identified"]["value"] is not None


@pytest.mark.usefixtures("publish_anyway")
def test_what_fails_while_measuring_leaves_the_model_and_the_reason(removal, faces, tmp_path, fails, monkeypatch):
    monkeypatch.setattr("delete_faces.remove.measure", fail(OSError("a disk went away")))
    fails("OSError: a disk went away", removal(tmp_path, ONE_STEP, "--test", faces))
    results = read_results(tmp_path)
    assert "OSError: a disk went away" in results["not_measured"]["rows"] and "verdict" not in results["details"]
    assert all(figure["value"] is None for row in results["rows"].values() for figure in row.values())
    assert GONE not in load_model(tmp_path / "erased")[1].classes
    assert {figure["status"] for figure in read_json(tmp_path, "record.json")["figures"]} == {"NOT MEASURED"}


def test_evaluations_are_tried_before_the_run(removal, faces, tmp_path, fails, monkeypatch):
    monkeypatch.setattr("delete_faces.metrics.verification", fail(ArithmeticError("no scores today")))
    fails("ArithmeticError: no scores today", removal(tmp_path / "w", ONE_STEP, "--test", faces))
    assert not (tmp_path / "w").exists()


def printed(results: dict, width: int = 80, wide: bool = False) -> str:
    console = Console(width=width, file=io.StringIO())
    show_rows(console, "Removing [/red]", results, wide)
    for line in [*lines_of(results), *notes(results)]:
        console.print(Text(line))
    return console.file.getvalue()


def results_of(loose: float | None, strict: float | None) -> dict:
    rates = {"@1e-2": loose, "@1e-3": strict}
    measured = {metric.name: rates.get((metric.column or "")[-5:]) for metric in METRICS}
    measured |= {"identified": 100.0, "others_identified": 100.0}
    row = {name: Measured(value).json() for name, value in measured.items()}
    none = dict.fromkeys(measured, Measured(None).json())
    at = {"1e-02": {"threshold": loose}, "1e-03": {"threshold": strict}}
    check = {"at": at, "removed_pairs": 105, "kept_pairs": 6000, "impostor_pairs": 337500}
    return {
        "recipe": {"steps": 52, "optimizer": {"lr": 0.01}},
        "forgotten": ["Gloria_Macapagal_Arroyo", "[/red]"],
        "metrics": [metric.json() for metric in METRICS],
        "rows": {**dict.fromkeys(("original", "logit_cut", "head_only", "erased"), row), "row_removed": none},
        "details": {"verification": {"erased": check}, "matches": matches((0.0, 0.0)), "taken_for": None},
        **dict.fromkeys(("prediction_shares", "forget_check", "finished", "done")),
        "forget_set": {"read": 15, "available": 15},
        "not_measured": {},
        "steps": 12,
        "seconds": {"unlearning": 3.0},
    }  # fmt: skip


def test_table_fits_80_columns_without_empty_columns():
    text = printed(results_of(27.62, 15.24))
    assert all(len(line) <= 80 for line in text.splitlines()) and "…" not in text, text
    assert all(part in text for part in ("105", "[/red]")), text
    assert all(part in text.split("Not shown")[0] for part in ("removed TAR@1e-2", "removed TAR@1e-3", "15.24")), text
    wide = printed(results_of(27.62, 15.24), width=200, wide=True)
    assert "others TAR@1e-3" in wide and "as others@1e-3" in wide
    few = printed(results_of(None, None))
    assert "@1e" not in few and "row removed" not in few and " - " not in few, "nothing that holds dashes alone"


@pytest.mark.parametrize(("after", "threshold", "expected"), [
    (("Ann_Lee", 0.6), 0.3, "before: Ann Lee, 0.75\nafter: Ann Lee, 0.60"),
    (("Bob", 0.2), 0.3, "before: Ann Lee, 0.75\nafter: unknown\n(nearest Bob, 0.20)"),
    (("Bob", 0.2), None, "before: Ann Lee, 0.75\nafter: Bob, 0.20"),
])  # fmt: skip
def test_captions_are_words(after, threshold, expected):
    assert caption(("Ann_Lee", 0.75), after, threshold) == expected


def matches(change, *people, far="1e-03") -> dict:
    figures = dict(before=100.0, after=3.57, interval=(0.1, 52.5), change=(-99.0, -40.0))
    others = dict(before=98.18, after=97.81, interval=(95.0, 99.0), change=change)
    entries = [dict(figures, name=name, photos=8, pairs=pairs) for name, pairs in people]
    others |= dict(people=61, photos=434, pairs=1372)
    return {"far": far, "thresholds": [0.334, 0.357], "people": entries, "others": others}


@pytest.mark.parametrize(("change", "word"), [
    ((-1.6, 0.9), "unchanged within 3 points (95% interval -1.6 to 0.9 points)"),
    ((-0.9, -0.1), "unchanged within 3 points"), ((-6.1, -3.2), "changed by -6.1 to -3.2 points"),
    ((3.2, 6.1), "changed by 3.2 to 6.1 points"),
    ((-8.5, 8.5), "cannot tell, for too few pairs (95% interval -8.5 to 8.5 points)"), ((-3.1, 0.2), "cannot tell"),
])  # fmt: skip
def test_changed_and_unchanged_follow_the_interval(change, word):
    first, second, others = answer(matches(change, ("Colin_Powell", 28), ("Bob", 0)))
    pairs = "3.6% of pairs of held-out photos match at FAR 1e-3 (28 pairs of 8 photos"
    assert first.startswith(f"Colin Powell: 100.0 -> {pairs}")
    assert "0.1 to 52.5%" in first and second.startswith("Bob: not measured")
    assert others.startswith("61 others: 98.2 -> 97.8%, ") and word in others


def test_each_person_and_the_others_are_compared_pair_by_pair():
    """Three photos of each of three people on a circle; the second model moves one photo of person 0 away, and of person 2."""
    labels = torch.arange(3).repeat_interleave(3)
    angles = torch.tensor([0.0, 5, 10, 120, 125, 130, 240, 245, 250])
    moved = angles + torch.tensor([0.0, 0, 60, 0, 0, 0, 0, 0, 90])

    def predictions(degrees):
        unit = torch.stack([torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))], 1)
        return Predictions(torch.zeros(9, 3), unit, labels)

    at = {"1e-02": {"threshold": 0.9, "removed": 1.0}, "1e-03": {"threshold": None, "removed": None}}
    checks = {row: {"at": at} for row in ("original", "erased")}
    compared = match_pairs(predictions(angles), predictions(moved), checks, [2], ["a", "b", "c"])
    assert compared["far"] == "1e-02" and compared["thresholds"] == [0.9, 0.9]
    (person,), others = compared["people"], compared["others"]
    assert (person["name"], person["pairs"], person["before"], person["after"]) == ("c", 3, 100.0, 33.33)
    assert (others["people"], others["pairs"], others["before"], others["after"]) == (2, 6, 100.0, 66.67)
    # Six pairs of three photos each are as two that share none, of which two thirds of one are lost.
    low, high = paired(2 / 3, 0, 2)
    assert others["change"] == [-high, -low] and low < 0 < high
    at["1e-02"]["removed"] = None
    assert match_pairs(predictions(angles), predictions(moved), checks, [2], ["a", "b", "c"]) is None


DRIFT = {"of": "434 held-out photos of others", "mean_cosine": 0.965, "least_cosine": 0.915}
THRESHOLD = {"model": 0.366, "far": None, "set": None, "cosine": True}


@pytest.mark.parametrize(
    ("details", "expected", "missing"),
    [
        ({}, ("mean 0.965, least 0.915", "434 held-out", "faces embed --model 'W 1/erased'", "original's, 0.366",
              "was 0.334 and is 0.357", "--threshold far=1e-3"), "The gallery"),
        ({"threshold": {**THRESHOLD, "far": "1e-03", "set": 0.357}}, ("is 0.357 (before: 0.366), that of two photos",), "--thr"),
        ({"threshold": {**THRESHOLD, "model": 10.2, "cosine": False}}, ("original's, 10.200", "0.357"), "--threshold"),
        ({"matches": None, "threshold": {**THRESHOLD, "model": None}}, ("Verification was not", "original's, none"), "FAR"),
        ({"drift": {**DRIFT, "least_cosine": 1.0}}, (), "stored elsewhere"),
        ({"gallery": {**DRIFT, "templates": 20, "projected": True, "exact": False}}, ("20 templates", "embed"), "elsewhere"),
    ],
)  # fmt: skip
def test_templates_and_thresholds_are_told(details, expected, missing):
    check = {"impostor_pairs": 92_589, "removed_pairs": 28, "kept_pairs": 1372}
    given = {"verification": {"erased": check}, "matches": matches((-1.6, 0.9), ("a", 28)), "drift": DRIFT,
             "threshold": THRESHOLD, **details}  # fmt: skip
    text = " ".join(lines_of({"details": given}, "W 1/erased"))
    assert all(part in text for part in expected) and missing not in text, text


@pytest.mark.parametrize("text", ["0.4", "far=0.5", "far=x", "far=nan", ""])
def test_another_threshold_is_refused(text):
    with pytest.raises(RequestError, match=r"expected one of far=1e-2, far=1e-3"):
        read_far(text, build_head("cosine", 4, 2))


def test_a_threshold_needs_cosines_and_pairs():
    cosine, linear = (build_head(kind, 4, 2) for kind in ("cosine", "linear"))
    assert read_far("far=1e-3", cosine) == read_far("far=0.001", cosine) == "1e-03" and read_far(None, linear) is None
    with pytest.raises(RequestError, match="linear head"):
        read_far("far=1e-3", linear)
    tested = ImageData.from_arrays(np.zeros((45, 1, 1, 3), np.uint8), np.arange(45) // 5, tuple("abcdefghi"))
    check_far("1e-02", tested, [0])
    with pytest.raises(RequestError, match=r"far=0\.001 takes 1,000 pairs .* give 700 pairs"):
        check_far("1e-03", tested, [0])
    with pytest.raises(RequestError, match="give 0 pairs"):
        check_far("1e-03", None, [0])


def test_held_out_photos_that_are_all_forgotten_are_refused(removal, faces, tmp_path, fails):
    photo = next((faces / "train" / GONE).iterdir())
    (tmp_path / "one" / GONE).mkdir(parents=True)
    shutil.copy(photo, tmp_path / "one" / GONE)
    words = removal(tmp_path / "w", "--test", tmp_path / "one", photos=tmp_path / "one")
    fails("all 1 photos of --test are to be forgotten.*--test none", words)
    assert not (tmp_path / "w").exists()
