"""A second request on an erased model: who was removed before is left out of all photos, and stays removed."""

import hashlib

import pytest
from helpers import argv, read_json, read_results, run

from delete_faces.earlier import removed_folders, without_removed
from delete_faces.gallery.gallery import read_gallery
from delete_images.models.model_file import load_model

FIRST, SECOND = "Colin_Powell", "Kofi_Annan"
ENDED = (0, 3, 4)


@pytest.fixture(scope="module")
def requests(models, faces, tmp_path_factory):
    """The work dirs of two requests in a row, and what the second said."""
    folder = tmp_path_factory.mktemp("requests")
    start = argv(
        "faces remove --audit none --model", models["cosine"], "--person", FIRST, "--work-dir", folder / "first"
    )
    run(start, status=ENDED)
    return folder


@pytest.fixture(scope="module")
def second(requests, faces):
    words = argv("faces remove --audit none --model", requests / "first" / "erased", "--person", SECOND)
    run(words, "--test", faces, "--work-dir", requests / "second", status=ENDED)
    return requests / "second"


def test_the_model_knows_them_by_digests_alone(requests, faces):
    raw = (requests / "first" / "erased" / "model.json").read_text()
    _, spec = load_model(requests / "first" / "erased")
    noted = spec.extra["removed"]
    assert FIRST not in raw and len(noted["sha256"]) == 1
    assert noted["sha256"] == [hashlib.sha256(f"{noted['salt']} colin powell".encode()).hexdigest()]
    assert removed_folders(str(faces), "train", spec) == [FIRST]
    assert without_removed(f"{faces}?without={SECOND}", "train", spec) == f"{faces}?without={FIRST},{SECOND}"
    assert without_removed(f"{faces}?class={SECOND}", "train", spec) == f"{faces}?class={SECOND}"


def test_enrolment_comes_along_without_the_person(models, requests):
    before, after = (
        read_json(folder, "enrolment.json") for folder in (models["cosine"], requests / "first" / "erased")
    )
    assert after["source"] == before["source"]
    assert after["held_out"] == sorted(name for name in before["held_out"] if not name.startswith(FIRST))


def test_the_first_person_stays_removed(second):
    results = read_results(second)
    earlier, now = results["details"]["removed_before"], results["details"]["matches"]
    assert earlier["people"] == 1 and earlier["photos"] == 6 and earlier["pairs"] == 15
    assert earlier["before"] <= 20 and earlier["after"] <= 20 and now["others"]["people"] == 6
    assert not any(FIRST in (second / name).read_text() for name in ("record.json", "record.html"))
    noted = load_model(second / "erased")[1].extra["removed"]
    assert len(noted["sha256"]) == 2
    run("record verify", second, "--rerun")


def test_templates_are_made_without_them(second, faces, tmp_path):
    run("faces embed --model", second / "erased", "--photos", faces, "--aligned --out", tmp_path / "t.npz")
    assert not {FIRST, SECOND} & set(read_gallery(tmp_path / "t.npz").people)
