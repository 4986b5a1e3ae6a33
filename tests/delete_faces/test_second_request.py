"""A second request on an erased model: who was removed before is left out of all photos, and stays removed."""

import hashlib
import json

import pytest
from helpers import read_json, read_results, run

from delete_faces.enrolment import pass_on_enrolment, removed_folders, without_removed
from delete_images.models.model_file import load_model

FIRST, SECOND = "Colin_Powell", "Kofi_Annan"


def remove(model, person, *more) -> None:
    run("faces remove --audit none --model", model, "--person", person, *more, status=(0, 3, 4))


@pytest.fixture(scope="module")
def requests(models, tmp_path_factory):
    """The folder of two requests in a row; the first is made."""
    folder = tmp_path_factory.mktemp("requests")
    remove(models["cosine"], FIRST, "--work-dir", folder / "first")
    return folder


@pytest.fixture(scope="module")
def second(requests, faces):
    remove(requests / "first" / "erased", SECOND, "--test", faces, "--work-dir", requests / "second")
    return requests / "second"


def test_the_model_knows_them_by_digests_alone(requests, faces):
    raw = (requests / "first" / "erased" / "model.json").read_text()
    noted = (spec := load_model(requests / "first" / "erased")[1]).extra["removed"]
    assert FIRST not in raw and len(noted["sha256"]) == 1
    assert noted["sha256"] == [hashlib.sha256(f"{noted['salt']} colin powell".encode()).hexdigest()]
    assert removed_folders(str(faces), "train", spec) == [FIRST]
    assert without_removed(f"{faces}?without={SECOND}", "train", spec) == f"{faces}?without={SECOND},{FIRST}"
    assert without_removed(f"{faces}?class={SECOND}", "train", spec) == f"{faces}?class={SECOND}"


def test_enrolment_comes_along_without_the_person(models, requests, tmp_path):
    before, after = (read_json(model, "enrolment.json") for model in (models["cosine"], requests / "first/erased"))
    assert after["source"] == before["source"]
    assert after["held_out"] == sorted(name for name in before["held_out"] if not name.startswith(FIRST))
    source = {"photos": f"{tmp_path}?class=colin-powell,Zoë", "tested": f"{tmp_path}?without=Colin Powell"}
    (tmp_path / "enrolment.json").write_text(json.dumps({"held_out": ["COLIN powell/a.png"], "source": source}))
    pass_on_enrolment(tmp_path, tmp_path, [FIRST])  # in whatever spelling
    assert "powell" not in (tmp_path / "enrolment.json").read_text().lower()


def test_the_first_person_stays_removed(second):
    details = read_results(second)["details"]
    earlier, now = details["removed_before"], details["matches"]
    assert earlier["people"] == 1 and earlier["photos"] == 6 and earlier["pairs"] == 15
    assert earlier["after"] <= earlier["before"] <= 50 and now["others"]["people"] == 6
    assert not any(FIRST in (second / name).read_text() for name in ("record.json", "record.html"))
    assert any("1 removed by earlier requests" in text for text in read_json(second, "record.json")["limits"])
    assert len(load_model(second / "erased")[1].extra["removed"]["sha256"]) == 2
    run("record verify", second, "--rerun")
