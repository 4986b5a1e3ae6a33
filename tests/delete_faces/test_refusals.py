"""Each mistake is one message that names it, and nothing is written."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from delete_faces.gallery.enroll import enroll
from delete_faces.gallery.identify import identify
from delete_faces.remove import remove
from delete_tasks.cli import main
from delete_tasks.errors import RequestError

GONE = "Colin_Powell"


@pytest.fixture
def refuses(models, faces, tmp_path, fails):
    """``refuses(message, *words, person=..., photos=...)``: faces remove ends with the message and writes nothing."""

    def run(message: str, *words: str, person=(GONE,), photos: Path = faces, aligned: bool = True, model=None) -> str:
        command = ["faces", "remove", "--model", model or models["cosine"], "--person", *person, "--photos", photos]
        command += ["--aligned"] if aligned else []
        error = fails(message, *command, "--work-dir", tmp_path / "work", *words)
        assert not (tmp_path / "work").exists()
        return error

    return run


def folder_of(tmp_path: Path, person: str, photos: list[Path]) -> Path:
    for photo in photos:
        (tmp_path / "given" / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "given" / person / photo.name)
    return tmp_path / "given"


def test_people(refuses, people):
    refuses("knows no class 'Collin_Powel'.*Did you mean 'Colin_Powell'", person=["Collin_Powel"])
    refuses("asked to forget all 8 classes", "--keep-row", person=people)
    refuses("leaves 1, and a model needs two", person=people[:7])
    refuses("asked more than once to forget Colin_Powell", person=[GONE, "colin powell"])
    refuses("asked more than once to forget Colin_Powell", person=[GONE, "#1"])
    refuses("no class '1'.*An id is written with a #: '#1'", person=["1"])


def test_a_name_that_fits_two_people_is_refused(refuses, models, tmp_path):
    shutil.copytree(models["cosine"], tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    content["classes"][0] = "colin powell"
    path.write_text(json.dumps(content))
    refuses(
        "'COLIN POWELL' is ambiguous|'Colin-Powell' is ambiguous", model=tmp_path / "model", person=["Colin-Powell"]
    )


def test_folders(refuses, faces, tmp_path):
    refuses("no photos at .*nothing there", photos=tmp_path / "nowhere")
    others = folder_of(tmp_path, "Kofi_Annan", sorted((faces / "train" / "Kofi_Annan").iterdir()))
    refuses("has no folder for Colin_Powell.*there are: Kofi_Annan", photos=others)
    (tmp_path / "given" / GONE).mkdir()
    refuses("leaves no image of 5", photos=others)


def test_unreadable(refuses, lfw, tmp_path):
    whole = (lfw / GONE / f"{GONE}_0001.jpg").read_bytes()
    (tmp_path / "given" / GONE).mkdir(parents=True)
    (tmp_path / "given" / GONE / "half.jpg").write_bytes(whole[: len(whole) // 2])
    refuses(r"none of 1 images can be read: Colin_Powell/half\.jpg", photos=tmp_path / "given")


def test_no_face(refuses, tmp_path):
    (tmp_path / "given" / GONE).mkdir(parents=True)
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "given" / GONE / "wall.png")
    refuses(
        "no photo of Colin_Powell is left of 1.*no face found: Colin_Powell/wall.png",
        photos=tmp_path / "given",
        aligned=False,
    )


def test_several_faces(refuses, lfw, tmp_path):
    pair = Image.new("RGB", (500, 250))
    with Image.open(lfw / GONE / f"{GONE}_0001.jpg") as photo:
        pair.paste(photo, (0, 0))
        pair.paste(photo, (250, 0))
    (tmp_path / "given" / GONE).mkdir(parents=True)
    pair.save(tmp_path / "given" / GONE / "pair.png")
    refuses(
        r"several faces: Colin_Powell/pair.png \(2 faces\).*--largest-face", photos=tmp_path / "given", aligned=False
    )


@pytest.mark.usefixtures("publish_anyway")
def test_somebody_else(refuses, models, faces, tmp_path, capsys):
    """One photo of another person among five: named, with its similarity; --force uses it."""
    photos = sorted((faces / "train" / GONE).iterdir())[:4]
    given = folder_of(tmp_path, GONE, [*photos, next((faces / "train" / "Tiger_Woods").iterdir())])
    error = refuses("1 of 5 photos do not look like the person", photos=given)
    assert "Tiger_Woods_" in error and "--force" in error and "the rest have 0." in error
    words = [
        "faces",
        "remove",
        "--model",
        models["cosine"],
        "--person",
        GONE,
        "--photos",
        given,
        "--aligned",
        "--force",
    ]
    assert main([str(word) for word in [*words, "--steps", "1", "--work-dir", tmp_path / "forced"]]) == 0
    assert "Used all the same (--force)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("publish_anyway")
def test_a_single_photo_is_warned_of(models, faces, tmp_path, capsys):
    given = folder_of(tmp_path, GONE, sorted((faces / "train" / GONE).iterdir())[:1])
    words = ["faces", "remove", "--model", models["cosine"], "--person", GONE, "--photos", given, "--aligned"]
    assert main([str(word) for word in [*words, "--test", "none", "--steps", "1", "--work-dir", tmp_path / "w"]]) == 0
    assert "so there is no held-out check" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "w" / "results.json").read_text())["steps"] == 0  # nothing is left of the photo


def test_label_map_and_head_disagree(refuses, models, tmp_path):
    shutil.copytree(models["cosine"], tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    content["classes"].append("Nobody")
    path.write_text(json.dumps(content))
    refuses(r"head of 8 outputs \(head\), but 9 class names", model=tmp_path / "model")


def test_not_a_face_network(refuses, shared, tmp_path):
    words = ["images", "import", shared / "weights" / "cifar10_resnet20-12fca82f.th", tmp_path / "m"]
    words += ["--architecture", "cifar_resnet20", "--classes", "cifar10"]
    assert main([str(word) for word in words]) == 0
    refuses("not an embedder with an identity head", person=["deer"], model=tmp_path / "m")


def test_enroll(faces, weights, tmp_path, fails):
    lone = folder_of(tmp_path, GONE, sorted((faces / "train" / GONE).iterdir())[:2])
    words = ["faces", "enroll", "--out", tmp_path / "model", "--aligned", "--weights", weights]
    fails("holds photos of one person", *words, "--photos", lone)
    fails("no photos at", *words, "--photos", tmp_path / "nowhere")
    fails("unknown architecture", *words, "--photos", faces, "--backbone", "mobilfacenet")
    fails("no checkpoint at", *words[:-1], tmp_path / "none.pt", "--photos", faces)
    fails("a linear head has no scale", *words, "--photos", faces, "--head", "linear", "--scale", "20")
    assert not (tmp_path / "model").exists()


OUT_OF_RANGE = [math.nan, math.inf, -math.inf, -1, "1", True]
ENROLL = {
    "held_out": [*OUT_OF_RANGE, 1, 1.5],
    "seed": [*OUT_OF_RANGE, 0.5, 2**32],
    "scale": [*OUT_OF_RANGE, 0],
    "embedding_size": [*OUT_OF_RANGE, 0, 2.5],
    "epochs": [*OUT_OF_RANGE, 0],
    "lr": [*OUT_OF_RANGE, 0],
}
REMOVE = {
    "steps": [*OUT_OF_RANGE, 0],
    "lr": [*OUT_OF_RANGE, 0, 1e9],
    "batch_size": [*OUT_OF_RANGE, 0],
    "teacher_temperature": [*OUT_OF_RANGE, 0],
    "stop": [*OUT_OF_RANGE, 0, 1],
    "seed": [*OUT_OF_RANGE, 2**32],
}
IDENTIFY = {"top": [*OUT_OF_RANGE, 0, 1.5], "threshold": [math.nan, math.inf, "1"]}


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (function, name, value)
        for function, table in ((enroll, ENROLL), (remove, REMOVE), (identify, IDENTIFY))
        for name, values in table.items()
        for value in values
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_read(function, name, value, tmp_path):
    """By the functions, too: none of what they would read is there."""
    options = dict.fromkeys(("held_out", "seed", "scale", "embedding_size", "epochs", "lr", *REMOVE, *IDENTIFY))
    options |= {"finetune": True, "out": str(tmp_path / "model"), "work_dir": str(tmp_path / "work"), name: value}
    with pytest.raises(RequestError, match=rf"^{name} must be a (whole )?number .*, got "):
        function(options, Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())
