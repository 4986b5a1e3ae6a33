"""Photos are forgotten or measured on, never both; figures, output and files of remove."""

import io
import json
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import read_json, read_results, run
from rich.console import Console
from rich.text import Text

from delete_faces.enrolment import divide
from delete_faces.metrics import METRICS
from delete_faces.photos import frame_photos
from delete_faces.picture import caption
from delete_faces.report import lines_of
from delete_images.data.opening import ImageData
from delete_images.models.model_file import load_model
from delete_tasks.evaluation import Measured
from delete_tasks.report.finish import notes, show_rows

GONE = "Colin_Powell"
NAMES = ("ann", "bob", "cid")
ENROLLED = ["ann/01.png", "ann/04.png", "bob/00.png", "cid/02.png", "dee/00.png"]


def photos(*people: str, first: int = 0) -> ImageData:
    """Different photos ``PERSON/00.png``, ...: 'ann*4' is four of Ann, numbered from ``first``."""
    counts = [text.split("*") for text in people]
    wanted = [(NAMES.index(name), first + number) for name, count in counts for number in range(int(count))]
    arrays = np.stack([np.full((2, 2, 3), 50 * label + number, np.uint8) for label, number in wanted])
    names = [f"{NAMES[label]}/{number:02d}.png" for label, number in wanted]
    return ImageData.from_arrays(arrays, np.array([label for label, _ in wanted]), NAMES, names)


@pytest.mark.parametrize(
    ("given", "tested", "enrolled", "forgotten", "measured", "why"),
    [
        (photos("ann*10"), photos("ann*10", "bob*4"), None, 7, {"ann": 3, "bob": 4}, "seed 0"),
        (photos("ann*4"), photos("ann*4"), None, 2, {"ann": 2}, "seed 0"),
        (photos("ann*3"), photos("ann*3"), None, 2, {"ann": 1}, "seed 0"),
        (photos("ann*1"), photos("ann*1"), None, 1, {"ann": 1}, None),
        (photos("ann*6"), photos("ann*2", "bob*2"), None, 4, {"ann": 2, "bob": 2}, "--test"),
        (photos("ann*6"), photos("ann*8"), None, 6, {"ann": 8}, None),
        (photos("ann*6"), photos("ann*4", first=6), None, 6, {"ann": 4}, None),
        (photos("ann*6"), photos("bob*4"), None, 6, {"bob": 4}, None),
        (photos("ann*6"), photos("ann*6", "bob*4", "cid*3"), ENROLLED, 4, {"ann": 2, "bob": 1, "cid": 1}, "enrolment"),
        (photos("ann*6"), photos("ann*6", "bob*4"), ["bob/00.png"], 4, {"ann": 2, "bob": 4}, "seed 0"),
    ],
)
def test_divide(given, tested, enrolled, forgotten, measured, why, tmp_path):
    if enrolled is not None:
        noted = {"held_out": enrolled, "source": {"photos": "a", "tested": "b"}}
        (tmp_path / "enrolment.json").write_text(json.dumps(noted))
    forget, gallery, notes = divide(given, tested, [0], str(tmp_path), 0)
    assert len(forget) == forgotten
    counts = {name: int((gallery.labels == i).sum()) for i, name in enumerate(NAMES)}
    assert {name: count for name, count in counts.items() if count} == measured
    assert bool(notes) == (why is not None)
    if why is not None:
        assert why in notes[0] and f"{len(given) - forgotten} of {len(given)}" in notes[0]
        assert not set(forget.names) & {name for name in gallery.names if name.startswith("ann")}
        assert set(forget.names) < set(given.names)
        again = divide(given, tested, [0], str(tmp_path), 0)
        assert again[0].names == forget.names and again[1].names == gallery.names


ONE_STEP = "--steps 1 --audit none"


def fail(error: Exception):
    """Make a function that raises."""
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
    assert "5 photos" in tells(removal(tmp_path / "w", ONE_STEP, "--no-record --test", tmp_path / "all"))
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


def results_of(rates: dict[str, float | None]) -> dict:
    measured = dict.fromkeys(("identified", "others_identified"), 100.0)
    for metric in METRICS:
        far = {"@1e-2": "1e-02", "@1e-3": "1e-03"}.get((metric.column or "")[-5:])
        measured |= {metric.name: rates.get(far)} if far else {}
    row = {metric.name: Measured(measured.get(metric.name)).json() for metric in METRICS}
    none = {metric.name: Measured().json() for metric in METRICS}
    at = {far: {"threshold": rate} for far, rate in rates.items()}
    check = {"at": at, "removed_pairs": 105, "kept_pairs": 6000, "impostor_pairs": 337500}
    return {
        "recipe": {"steps": 52, "optimizer": {"lr": 0.01}},
        "forgotten": ["Gloria_Macapagal_Arroyo", "[/red]"],
        "metrics": [metric.json() for metric in METRICS],
        "rows": {**dict.fromkeys(("original", "logit_cut", "head_only", "erased"), row), "row_removed": none},
        "details": {"verification": {"original": check}, "taken_for": None, "verdict": "Largely forgotten, not wholly.",
                    "still_holding": ["somewhere [/bold]"]},
        "prediction_shares": None,
        "forget_set": {"read": 15, "available": 15},
        "forget_check": None,
        "finished": None,
        "not_measured": {},
        "steps": 12,
        "seconds": {"unlearning": 3.0},
    }  # fmt: skip


def test_table_fits_80_columns_without_empty_columns():
    text = printed(results_of({"1e-02": 27.62, "1e-03": 15.24}))
    assert all(len(line) <= 80 for line in text.splitlines()) and "…" not in text, text
    assert "105" in text
    shown = text.split("Not shown")[0]
    assert "removed TAR@1e-2" in shown and "removed TAR@1e-3" in shown and "15.24" in shown
    assert "[/red]" in text and "[/bold]" in text
    wide = printed(results_of({"1e-02": 27.62, "1e-03": 15.24}), width=200, wide=True)
    assert "others TAR@1e-3" in wide and "as others@1e-3" in wide
    few = printed(results_of({"1e-02": None, "1e-03": None}))
    assert "@1e" not in few and "row removed" not in few and " - " not in few, "nothing that holds dashes alone"


@pytest.mark.parametrize(
    ("after", "threshold", "expected"),
    [
        (("Ann_Lee", 0.6), 0.3, "before: Ann Lee, 0.75\nafter: Ann Lee, 0.60"),
        (("Bob", 0.2), 0.3, "before: Ann Lee, 0.75\nafter: nobody\n(nearest Bob, 0.20)"),
        (("Bob", 0.2), None, "before: Ann Lee, 0.75\nafter: Bob, 0.20"),
    ],
)
def test_captions_are_words(after, threshold, expected):
    assert caption(("Ann_Lee", 0.75), after, threshold) == expected
