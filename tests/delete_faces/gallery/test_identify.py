"""Who is on a photo, and nobody where it is a stranger; folders, damaged files."""

import shutil
from functools import partial

import numpy as np
import pytest
from helpers import edit_json, read_json, run
from PIL import Image

GONE = "Colin_Powell"


@pytest.fixture
def identify(tells):
    """``identify(model, *words)``: what the command says of photos."""
    return partial(tells, "faces identify --model")


@pytest.mark.parametrize("kind", ["cosine", pytest.param("linear", marks=pytest.mark.long)])
def test_known_and_removed_people(kind, models, faces, lfw, tmp_path, identify):
    """A kept person is named before and after; a removed one is nobody after, by the threshold kept at enrolment."""
    known, gone = lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg", lfw / GONE / f"{GONE}_0008.jpg"
    model, work = models[kind], tmp_path / kind
    run("faces remove --model", model, "--person", GONE, "--photos", faces, "--aligned --work-dir", work)
    for folder, second in ((model, GONE), (work / "erased", "nobody")):
        said = identify(folder, "--largest-face --top 1", known, gone)
        assert ": Kofi_Annan: " in said and f": {second}: " in said, said


def test_strangers_are_nobody(models, lfw, identify):
    """Fifty-four people that the models of eight do not know, a photo of each."""
    known = read_json(models["cosine"], "model.json")["classes"]
    others = sorted(path for path in lfw.iterdir() if path.is_dir() and path.name not in known)
    photos = [sorted(folder.glob("*.jpg"))[0] for folder in others]
    for model in models.values():
        said = identify(model, "--largest-face", photos)
        assert len(photos) == 54 and said.count(": nobody: ") >= 50, said


def test_a_threshold_of_a_linear_head_is_a_logit(models, lfw, identify):
    """Which may be larger than 1, as no cosine is."""
    photo = lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg"
    for threshold, who in (("1.5", "Kofi_Annan"), ("50", "nobody")):
        said = identify(models["linear"], "--largest-face --threshold", threshold, photo)
        assert f": {who}: " in said


@pytest.fixture
def folder(lfw, tmp_path):
    """Two photos, one of them deeper, half a photo, an empty one, a text, and a hidden photo."""
    photos = sorted((lfw / "Kofi_Annan").glob("*.jpg"))
    inside = tmp_path / "photos"
    (inside / "deeper").mkdir(parents=True)
    shutil.copy(photos[5], inside / "one.jpg")
    shutil.copy(photos[6], inside / "deeper" / "two.JPG")
    shutil.copy(photos[7], inside / ".hidden.jpg")
    (inside / "half.jpg").write_bytes(photos[5].read_bytes()[:3000])
    (inside / "empty.png").write_bytes(b"")
    (inside / "notes.txt").write_text("no photo")
    return inside


def test_folders_and_damaged_files(models, folder, identify):
    said = identify(models["cosine"], "--largest-face", folder, folder / "one.jpg", folder / "nowhere.jpg")
    assert said.count(": Kofi_Annan: ") == 3 and "two.JPG" in said and "hidden" not in said and "notes" not in said
    for name, reason in (("half.jpg", ""), ("empty.png", ""), ("nowhere.jpg", "nothing there")):
        assert f"'{folder / name}' ({reason}" in said, said


def test_refusals(models, tmp_path, fails):
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "wall.png")
    (tmp_path / "empty").mkdir()
    for name, fact in (("wall.png", "1 photo"), ("missing.jpg", "missing.jpg"), ("empty", "empty'")):
        fails(fact, "faces identify --model", models["cosine"], tmp_path / name)


def test_a_model_without_a_threshold_takes_one_from_the_photos(models, lfw, tmp_path, identify):
    shutil.copytree(models["cosine"], tmp_path / "model")
    edit_json(tmp_path / "model" / "model.json", lambda content: content["extra"].update(threshold=None))
    known, stranger = lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg", lfw / "Tony_Blair" / "Tony_Blair_0001.jpg"
    said = identify(tmp_path / "model", "--largest-face", known, stranger)
    assert "threshold" in said and "14 scores" in said
    assert ": Kofi_Annan: " in said and ": nobody: " in said
