"""Figures, output and files of ``faces remove``."""

import io
import shutil
from unittest.mock import Mock

import pytest
from helpers import read_json, read_results, run
from rich.console import Console
from rich.text import Text

from delete_faces.metrics import METRICS
from delete_faces.photos import frame_photos
from delete_faces.picture import caption
from delete_faces.report import answer, lines_of, verdict
from delete_images.models.model_file import load_model
from delete_tasks.evaluation import Measured
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
def test_eval_photos_that_are_forgotten_are_left_out(removal, faces, tmp_path, tells):
    """If --test holds other photos of the person as well, all of --photos are forgotten."""
    for split in ("train", "test"):
        shutil.copytree(faces / split, tmp_path / "all", dirs_exist_ok=True)
    assert "Left out: 5 of 88 samples of --test" in tells(
        removal(tmp_path / "w", ONE_STEP, "--no-record --test", tmp_path / "all")
    )
    assert read_results(tmp_path / "w")["details"]["held_out"] == {"photos": 83, "of_removed_people": 6}


@pytest.mark.usefixtures("publish_anyway")
def test_what_fails_while_measuring_leaves_the_model_and_the_reason(removal, faces, tmp_path, fails, monkeypatch):
    monkeypatch.setattr("delete_faces.remove.measure", fail(OSError("a disk went away")))
    fails("OSError: a disk went away", removal(tmp_path, ONE_STEP, "--test", faces))
    results = read_results(tmp_path)
    assert "OSError: a disk went away" in results["details"]["verdict"]
    assert all(figure["value"] is None for row in results["rows"].values() for figure in row.values())
    assert GONE not in load_model(tmp_path / "erased")[1].classes
    assert {figure["status"] for figure in read_json(tmp_path, "record.json")["figures"]} == {"NOT MEASURED"}


@pytest.mark.usefixtures("publish_anyway")
@pytest.mark.parametrize(("part", "missing"), [("draw_people", "before_after.png"), ("unlearned_head", "head_only")])
def test_a_part_that_fails_costs_no_other_figure(removal, faces, tmp_path, tells, monkeypatch, part, missing):
    monkeypatch.setattr(f"delete_faces.remove.{part}", fail(ZeroDivisionError()))
    printed = tells(removal(tmp_path, ONE_STEP, "--no-record --test", faces / "test"))
    assert missing in printed and "ZeroDivisionError" in printed
    rows = read_results(tmp_path)["rows"]
    assert missing not in rows and rows["erased"]["identified"]["value"] is not None


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
    row, none = (
        {name: Measured(value).json() for name, value in values.items()}
        for values in (measured, dict.fromkeys(measured))
    )
    at = {"1e-02": {"threshold": loose}, "1e-03": {"threshold": strict}}
    check = {"at": at, "removed_pairs": 105, "kept_pairs": 6000, "impostor_pairs": 337500}
    return {
        "recipe": {"steps": 52, "optimizer": {"lr": 0.01}},
        "forgotten": ["Gloria_Macapagal_Arroyo", "[/red]"],
        "metrics": [metric.json() for metric in METRICS],
        "rows": {**dict.fromkeys(("original", "logit_cut", "head_only", "erased"), row), "row_removed": none},
        "details": {"verification": {"original": check}, "taken_for": None, "verdict": "Largely forgotten, not wholly.",
                    "still_holding": ["somewhere [/bold]"]},
        **dict.fromkeys(("prediction_shares", "forget_check", "finished")),
        "forget_set": {"read": 15, "available": 15},
        "not_measured": {},
        "steps": 12,
        "seconds": {"unlearning": 3.0},
    }  # fmt: skip


def test_table_fits_80_columns_without_empty_columns():
    text = printed(results_of(27.62, 15.24))
    assert all(len(line) <= 80 for line in text.splitlines()) and "…" not in text, text
    assert all(part in text for part in ("105", "[/red]", "[/bold]")), text
    assert all(part in text.split("Not shown")[0] for part in ("removed TAR@1e-2", "removed TAR@1e-3", "15.24")), text
    wide = printed(results_of(27.62, 15.24), width=200, wide=True)
    assert "others TAR@1e-3" in wide and "as others@1e-3" in wide
    few = printed(results_of(None, None))
    assert "@1e" not in few and "row removed" not in few and " - " not in few, "nothing that holds dashes alone"


@pytest.mark.parametrize(
    ("after", "threshold", "expected"),
    [
        (("Ann_Lee", 0.6), 0.3, "before: Ann Lee, 0.75\nafter: Ann Lee, 0.60"),
        (("Bob", 0.2), 0.3, "before: Ann Lee, 0.75\nafter: unknown\n(nearest Bob, 0.20)"),
        (("Bob", 0.2), None, "before: Ann Lee, 0.75\nafter: Bob, 0.20"),
    ],
)
def test_captions_are_words(after, threshold, expected):
    assert caption(("Ann_Lee", 0.75), after, threshold) == expected


def check(removed: float | None, kept: float, strict: float | None) -> dict:
    return {"at": {"1e-02": {"removed": removed, "kept": kept}, "1e-03": {"removed": strict, "kept": kept}}}


@pytest.mark.parametrize(
    ("removed", "kept", "strict", "facts"),
    [
        (20.0, 98.0, 3.81, ("Colin Powell: no longer matched (TAR 3.8% at FAR 0.001, 100.0%", "61 others unchanged (98.1 ->")),
        (9.0, 98.0, None, ("no longer matched (TAR 9.0% at FAR 0.01, ",)),
        (9.0, 98.0, 6.0, ("seldom matched (TAR 6.0% at FAR 0.001",)),
        (80.0, 98.0, None, ("still matched",)),
        (8.0, 97.0, None, ("others changed (98.1 -> 97.0)",)),
    ],
)  # fmt: skip
def test_the_first_line_is_the_answer(removed, kept, strict, facts):
    before = check(100.0, 98.1, None if strict is None else 100.0)
    line = answer(["Colin_Powell"], {"original": before, "erased": check(removed, kept, strict)}, 61)
    assert all(fact in line for fact in facts), line


def test_no_verification_gives_no_answer():
    nothing = check(None, 98.1, None)
    assert answer(["a"], {"original": nothing, "erased": nothing}, 2) is None
    assert answer(["a"], {"original": None, "erased": None}, 2) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [(98.0, "Not forgotten"), (60.0, "Partly forgotten"), (20.0, "Largely forgotten"), (0.0, "No longer verified")],
)
def test_verdict(now, words):
    def figures(rate):
        return {"at": {"1e-02": {"removed": 100.0}, "1e-03": {"removed": rate}, "1e-04": {"removed": None}}}

    text = verdict(figures(98.0), figures(now), 0.0)
    assert text.startswith(words) and "98.0% before" in text and "names them in 0.0%" in text
