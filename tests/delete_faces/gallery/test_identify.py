"""faces identify: people, strangers, folders, damaged files."""

import shutil
from functools import partial

import numpy as np
import pytest
from helpers import edit_json, read_json, run
from PIL import Image

GONE = "Colin_Powell"


@pytest.fixture
def identify(tells):
    """``identify(model, *words)``: output of the command."""
    return partial(tells, "faces identify --model")


@pytest.mark.parametrize("kind", ["cosine", pytest.param("linear", marks=pytest.mark.long)])
def test_known_and_removed_people(kind, models, faces, lfw, tmp_path, identify):
    """A kept person is named before and after; a removed one is unknown after, by the threshold kept at enrolment."""
    photos = [lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg", lfw / GONE / f"{GONE}_0008.jpg"]
    model, work = models[kind], tmp_path / kind
    quick = "--aligned --audit none --test none --no-record --work-dir"
    run("faces remove --model", model, "--person", GONE, "--photos", faces, quick, work)
    for folder, second in ((model, GONE), (work / "erased", "unknown")):
        printed = identify(folder, "--largest-face --top 1", photos)
        assert ": Kofi_Annan: " in printed and f": {second}: " in printed, printed


def test_strangers_are_unknown(models, lfw, identify):
    """A photo of each of fifty-four people that the models of eight do not know."""
    people = read_json(models["cosine"], "model.json")["classes"]
    others = sorted(path for path in lfw.iterdir() if path.is_dir() and path.name not in people)
    photos = [sorted(folder.glob("*.jpg"))[0] for folder in others]
    for model in models.values():
        printed = identify(model, "--largest-face", photos)
        assert len(photos) == 54 and printed.count(": unknown: ") >= 50, printed


def test_a_threshold_of_a_linear_head_is_a_logit(models, lfw, identify):
    """It may be larger than 1, unlike a cosine."""
    photo = lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg"
    for threshold, name in (("1.5", "Kofi_Annan"), ("50", "unknown")):
        assert f": {name}: " in identify(models["linear"], "--largest-face --threshold", threshold, photo)


def test_folders_and_damaged_files(models, lfw, tmp_path, identify):
    photos, folder = sorted((lfw / "Kofi_Annan").glob("*.jpg")), tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for photo, name in zip(photos[5:8], ("one.jpg", "deeper/two.JPG", ".hidden.jpg"), strict=True):
        shutil.copy(photo, folder / name)
    (folder / "half.jpg").write_bytes(photos[5].read_bytes()[:3000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    printed = identify(models["cosine"], "--largest-face", folder, folder / "one.jpg", folder / "nowhere.jpg")
    assert printed.count(": Kofi_Annan: ") == 3 and "two.JPG" in printed
    assert "hidden" not in printed and "notes" not in printed
    for name, reason in (("half.jpg", ""), ("empty.png", ""), ("nowhere.jpg", "nothing there")):
        assert f"'{folder / name}' ({reason}" in printed, printed


def test_refusals(models, tmp_path, fails):
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "wall.png")
    (tmp_path / "empty").mkdir()
    for name, fact in (("wall.png", "1 photo"), ("missing.jpg", "missing.jpg"), ("empty", "empty'")):
        fails(fact, "faces identify --model", models["cosine"], tmp_path / name)


def test_a_model_without_a_threshold_takes_one_from_the_photos(models, lfw, tmp_path, identify):
    shutil.copytree(models["cosine"], tmp_path / "model")
    edit_json(tmp_path / "model" / "model.json", lambda content: content["extra"].update(threshold=None))
    photos = [lfw / "Kofi_Annan" / "Kofi_Annan_0006.jpg", lfw / "Tony_Blair" / "Tony_Blair_0001.jpg"]
    printed = identify(tmp_path / "model", "--largest-face", photos)
    assert all(text in printed for text in ("threshold", "14 scores", ": Kofi_Annan: ", ": unknown: "))
