"""Each mistake is one message that names it, and nothing is written."""

import shutil
from pathlib import Path

import pytest
from helpers import argv, read_results, run

GONE = "Colin_Powell"


@pytest.fixture
def refuses(models, faces, tmp_path, fails):
    """``refuses(fact, *words, person=..., photos=...)``: faces remove ends with the message and writes nothing."""

    def run(fact: str, *words: str, person=(GONE,), photos: Path = faces, aligned: bool = True, model=None) -> str:
        command = argv("faces remove --model", model or models["cosine"], "--person", person, "--photos", photos)
        error = fails(fact, command, ["--aligned"] * aligned, "--work-dir", tmp_path / "work", words)
        assert not (tmp_path / "work").exists()
        return error

    return run


def folder_of(tmp_path: Path, person: str, photos: list[Path]) -> Path:
    for photo in photos:
        (tmp_path / "given" / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "given" / person / photo.name)
    return tmp_path / "given"


def test_people(refuses, people):
    refuses("'Collin_Powel'.*'Colin_Powell'", person=["Collin_Powel"])
    refuses("all 8 classes", "--keep-row", person=people)
    refuses("leaves 1", person=people[:7])
    refuses("Colin_Powell", person=[GONE, "colin powell"])


def test_folders(refuses, faces, tmp_path):
    refuses("nowhere", photos=tmp_path / "nowhere")
    others = folder_of(tmp_path, "Kofi_Annan", sorted((faces / "train" / "Kofi_Annan").iterdir()))
    refuses("Colin_Powell.*Kofi_Annan", photos=others)
    (tmp_path / "given" / GONE).mkdir()
    refuses("of 5", photos=others)


@pytest.mark.parametrize(("name", "fact"), [
    ("half.jpg", r"1 images.*Colin_Powell/half\.jpg"), ("wall.jpg", "Colin_Powell .*of 1.*: Colin_Powell/wall.jpg"),
    ("pair.jpg", r"Colin_Powell/pair.jpg .*2 faces.*--largest-face"),
])  # fmt: skip
def test_photos_without_one_face(refuses, bad_photos, tmp_path, name, fact):
    given = folder_of(tmp_path, GONE, [bad_photos / name])
    refuses(fact, photos=given, aligned=name == "half.jpg")


def test_somebody_else(refuses, removal, faces, tmp_path, tells, publish_anyway):
    """One photo of another person among five: named, with its similarity; --force uses it."""
    photos = sorted((faces / "train" / GONE).iterdir())[:4]
    given = folder_of(tmp_path, GONE, [*photos, next((faces / "train" / "Tiger_Woods").iterdir())])
    error = refuses("1 of 5 photos", photos=given)
    assert "Tiger_Woods_" in error and "--force" in error
    quick = "--force --steps 1 --audit none --test none --no-record"
    assert "(--force)" in tells(removal(tmp_path / "forced", quick, photos=given))


def test_a_single_photo_is_warned_of(removal, faces, tmp_path, tells, publish_anyway):
    given = folder_of(tmp_path, GONE, sorted((faces / "train" / GONE).iterdir())[:1])
    assert "no held-out" in tells(removal(tmp_path / "w", "--test none --steps 1 --no-record", photos=given))
    assert read_results(tmp_path / "w")["steps"] == 0  # nothing is left of the photo


def test_not_a_face_network(refuses, shared, tmp_path):
    weights = shared / "weights" / "cifar10_resnet20-12fca82f.th"
    run("images import", weights, tmp_path / "m", "--architecture cifar_resnet20 --classes cifar10")
    refuses("identity head", person=["deer"], model=tmp_path / "m")


def test_enroll(faces, weights, tmp_path, fails):
    lone = folder_of(tmp_path, GONE, sorted((faces / "train" / GONE).iterdir())[:2])
    words = argv("faces enroll --out", tmp_path / "model", "--aligned --weights", weights)
    fails("one person", words, "--photos", lone)
    fails("nowhere", words, "--photos", tmp_path / "nowhere")
    fails("none.pt", words[:-1], tmp_path / "none.pt", "--photos", faces)
    assert not (tmp_path / "model").exists()
