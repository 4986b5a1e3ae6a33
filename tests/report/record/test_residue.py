"""Residue: files that hold the forgotten classes or name them in any spelling, at the end of a run of any task."""

import html
import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from helpers import read_json

from delete_tasks.fileio.digests import describe_model
from delete_tasks.report.record.files import UNKNOWN
from delete_tasks.report.residue import decoded, find_residue, named_in, names_any
from delete_tasks.task import load_task

HARD = ("Zoë", "李小龍", 'Ann "Zo" Lee', "O'Brien_Åsa", "Jürgen <b>", "A&B_Müller", "😀", "C:\\Ann")
SPELLED = {
    "raw": str, "json": json.dumps, "html": html.escape,
    "html by number": lambda name: "".join(f"&#{ord(letter)};" for letter in name), "repr": ascii,
    "NFC": lambda name: unicodedata.normalize("NFC", name), "NFD": lambda name: unicodedata.normalize("NFD", name),
    "NFD in json": lambda name: json.dumps(unicodedata.normalize("NFD", name)),
    "space": lambda name: name.replace("_", " "), "underscore": lambda name: name.replace(" ", "_"),
    "address": lambda name: quote(name, safe=""), "json in json": lambda name: json.dumps(json.dumps([name])),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLED)
@pytest.mark.parametrize("name", HARD)
def test_names_are_found_in_any_spelling(name, spelling):
    text = f'{{"x": 1, "who": {SPELLED[spelling](name)}, 7}}'.encode()
    assert names_any(decoded(text), ["no such name", name])


@pytest.mark.parametrize(("text", "name", "expected"), [
    ("class=deer&limit=9", "deer", True), ("step 2 of 20", "2", True), ("step 12 of 20", "2", False),
    ("a carton, 1 scar", "car", False), ("the car.", "car", True), ("oil and cloth", "Li", False),
    ("zoe_powell.jpg", "Zoë Powell", True), ("見て李小龍さん", "李小龍", True),
])  # fmt: skip
def test_other_words_are_no_name(text, name, expected):
    assert names_any(text, [name]) is expected


def test_files_of_a_face_model(tmp_path):
    """Templates are counted, and each other file is listed if it names the person."""
    person, folder = 'Zoë "Zo" Li', tmp_path / "model"
    folder.mkdir()
    names = ["Bo", person, "Cy", person, person]
    np.savez(folder / "gallery.npz", embeddings=np.random.default_rng(0).normal(size=(5, 4)), names=np.array(names))
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "model.json").write_text(json.dumps({"classes": names}))
    (folder / "enrolment.json").write_text(json.dumps({"held_out": [f"{person}/1.png"]}))
    (folder / "notes.txt").write_text("others only")
    task = load_task("faces")
    found = {path.name: what for what, path in task.residue(folder / "weights.safetensors", [person])}
    assert "3 templates" in found["gallery.npz"] and "biometric" in found["gallery.npz"]
    assert set(found) == {"weights.safetensors", "gallery.npz", "model.json", "enrolment.json"}
    found = {path.name: what for what, path in task.residue(folder / "weights.safetensors", ["Dee"])}
    assert set(found) == {"weights.safetensors"}
    (folder / "gallery.npz").write_bytes(b"torn")  # what cannot be searched is listed
    found = {path.name: what for what, path in task.residue(folder / "weights.safetensors", ["Dee"])}
    assert found["gallery.npz"].startswith("possibly templates")
    alone = tmp_path / "original.pth"  # in a folder of other things
    alone.write_bytes(b"")
    assert [path for _, path in load_task("images").residue(alone, ["car"])] == [alone]


@pytest.mark.parametrize("run", ["recorded", "faced", "segmented", "cleaned"])
def test_every_file_that_holds_a_name_is_listed(run, request):
    """In results.json and the record alike, for all tasks; audit.png and the manifest hold neither samples nor names."""
    folder = request.getfixturevalue(run)
    results, record = (read_json(folder, name) for name in ("results.json", "record.json"))
    listed = {item["where"] for item in results["residue"]}
    names = [] if run == "cleaned" else results["forgotten"]  # a backdoor's target stays a class
    assert UNKNOWN in listed and (str(folder / "results.json") in listed) == bool(names)
    free = {"record.json", "record.html", "samples.txt", "audit.png", ".delete-tasks.json", "attention.jpg"}
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts[0]
        if path.is_file() and not inside.startswith(("record.", "erased", "cleaned")) and inside not in free:
            holds = path.suffix in (".png", ".pth") or named_in(path, names)
            assert holds == (str(path) in listed), path
    listed = results["residue"]
    assert len(record["residue"]) == len(listed)
    assert [item["where"] for item in listed].count(str(folder / "record.salt")) == record["forgotten"]["names_hidden"]
    paths = [item["where"] for item in listed if item["where"].startswith("/") and "?" not in item["where"]]
    assert all(Path(path).exists() for path in paths)


def test_temporary_files_and_names_in_the_erased_folder_are_listed(tmp_path, copy):
    temporary = ".weights.safetensors.x1.delete-tasks.tmp"
    for place in (".", "erased"):
        (copy / place / temporary).write_bytes(b"half")
    (copy / "step_4.pth").write_bytes(b"state")
    files = [file["path"] for file in describe_model(copy / "erased", copy)["files"]]
    assert sorted(files) == ["erased/model.json", "erased/weights.safetensors"]
    (copy / "erased" / "README.md").write_text("green was erased")
    runner = SimpleNamespace(task=load_task("images"), work_dir=str(copy), teacher_path="original.pth",
                             outcome=SimpleNamespace(published=str(copy / "erased")))  # fmt: skip
    items = find_residue(runner, {"forgotten": ["green"], "data": {"forget": str(tmp_path)}}, {})
    where = {item["where"].removeprefix(f"{copy}/"): item["what"] for item in items}
    assert all(where[name].startswith("temporary file") for name in (temporary, f"erased/{temporary}"))
    assert "optimizer" in where["step_4.pth"] and str(tmp_path) in where
    assert {name for name in where if name.startswith("erased/")} == {f"erased/{temporary}", "erased/README.md"}
