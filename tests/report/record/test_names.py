"""People's names: hidden when a value is entered, found again while the folders exist, with nothing else changed."""

import json
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from helpers import read_json

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Person, Text
from delete_tasks.report.record import people as hiding
from delete_tasks.report.record.measurement import pack
from delete_tasks.report.record.people import Hider, find_forgotten, find_place, fold, hashed, read_salt, stand_in
from delete_tasks.report.record.verify import NOT_CHECKED, OK, verify

SALT = b"s" * 32


def test_a_record_of_people_holds_no_spelling_of_a_name(faced):
    """In ALICE-NG, AliceNgTakedown, alice.ng-and-others and free text; a person called 'points' or '2' changes nothing else."""
    record = read_json(faced, "record.json")
    log = (faced.parent / "records.jsonl").read_text()
    for text in ((faced / "record.json").read_text(), (faced / "record.html").read_text(), log):
        assert "aliceng" not in fold(text)[0] and "boblee" not in fold(text)[0]
    salt = read_salt(faced)
    assert (faced / "record.salt").stat().st_mode & 0o777 == 0o600
    assert record["forgotten"]["classes"] == [{"id": None, "name": None, "salted_sha256": hashed("Alice_Ng", salt)}]
    assert record["schema_version"] == 3 and record["created"].startswith("202") and record["seeds"] == {"run": 0}
    assert {figure["unit"] for figure in record["figures"]} == {"percent", "points"}
    her = stand_in("Alice_Ng", salt)
    assert record["request"]["reference"] == f"GDPR 17: erase {her} ({her}@example.org), room 2"
    assert record["method"]["settings"]["classes"] == [her] and record["results"] is None
    assert record["models"]["original"]["path"].endswith(f"{stand_in('alice.ng-and-others', salt)}/weights.safetensors")
    assert json.loads(log)["path"].endswith(stand_in("AliceNgTakedown", salt))
    assert {picture["path"] for picture in record["pictures"]} <= {"audit.png"}
    assert not (faced / "attention.jpg").exists()


def test_a_record_of_people_holds_no_order_of_names(faced):
    """The number of a person, and the order of samples and names, would tell the name's place in the alphabet."""
    record, page = read_json(faced, "record.json"), (faced / "record.html").read_text()
    assert "classes" not in record["measurement"]["options"] and "number 0" not in page
    (text,) = record["measurement"]["data"].values()
    people = [piece["$person"] for piece in text["$text"] if isinstance(piece, dict) and "$person" in piece]
    assert len(people) == 4 and people == sorted(people)
    lines = [line.split("\t") for line in (faced / "samples.txt").read_text().splitlines()]
    for kind in record["samples"]["read"]:
        names = [name for listed, name in lines if listed == kind]
        assert len(names) > 1 and names == sorted(names)


def test_a_name_is_compared_with_the_record(faced):
    checks = {check.what: check.status for check in verify(faced, names=["Alice Ng", "Bob_Lee"])}
    assert checks["name Alice Ng"] == OK and checks["name Bob_Lee"] == NOT_CHECKED
    classes = read_json(faced, "record.json")["forgotten"]["classes"]
    assert find_forgotten(classes, read_salt(faced), ["2", "Alice_Ng"]) == [1]
    with pytest.raises(RequestError, match="hidden name"):
        find_forgotten([{"id": None, "salted_sha256": "0" * 64}], SALT, NAMES)


def test_order_of_hidden_names(tmp_path):
    hider, people = Hider(NAMES, SALT, tmp_path), [Person(name) for name in NAMES[:3]]
    first, second, third = people
    text = Text(["d?class=", first, ",", second, ",", third, "&without=", Person("2"), ",", Person("points")])
    packed = pack(text, hider)["$text"]
    listed = [piece["$person"] for piece in packed if isinstance(piece, dict)]
    assert listed[:3] == sorted(stand_in(name, SALT) for name in NAMES[:3]) and listed[3:] == sorted(listed[3:])
    assert [piece for piece in packed if isinstance(piece, str)] == ["d?class=", ",", ",", "&without=", ","]
    shown = pack(text, Hider(NAMES, None, tmp_path))["$text"][1::2]
    assert [piece["$person"] for piece in shown] == [*NAMES[:3], "2", "points"]


def test_hidden_names_are_found_again_in_the_folders(faced, tmp_path):
    checks = {check.what: check.status for check in verify(faced)}
    assert checks["original model"] == OK
    shutil.copytree(faced, tmp_path / "copy")
    (tmp_path / "copy" / "record.salt").unlink()
    checks = {check.what: check for check in verify(tmp_path / "copy", rerun=True)}
    assert checks["original model"].status == NOT_CHECKED and "no record.salt" in checks["original model"].why
    assert checks["figure identified"].status == NOT_CHECKED and "no record.salt" in checks["figure identified"].why


NAMES = ["Alice_Ng", "José Peña", "Li", "points", "2", "Γιώργος Παπάς", "李小龍"]


@pytest.mark.parametrize(
    ("part", "hidden"),
    [
        *((part, True) for part in ("Alice_Ng", "ALICE-NG", "alice ng", "AliceNgTakedown", "aliceng2.zip", "Alice%20Ng")),
        *((part, True) for part in ("jose_pena.jpg", "JoséPeña", "JOSE\u0301-PEN\u0303A", "ΓΙΩΡΓΟΣ ΠΑΠΑΣ")),
        *((part, True) for part in ("my-li", "LiPhotos", "2", "2.png")),
        *((part, False) for part in ("limits", "step_2.pth", "2026-11-25", "alice", "ng", "oil", "run.2.old")),
    ],
)  # fmt: skip
def test_parts_of_paths(part, hidden, tmp_path):
    hider = Hider(NAMES, SALT, tmp_path / "work")
    shown = hider.path(tmp_path / "elsewhere" / part / "x.jpg")
    assert Path(shown).parts[-2] == (stand_in(part, SALT) if hidden else part) and shown.endswith("/x.jpg")
    place = tmp_path / "elsewhere" / part
    assert Hider(NAMES, None, tmp_path / "work").path(place) == str(place)
    place.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "record.salt").write_text(SALT.hex())
    assert find_place(shown, tmp_path / "work").parent == place
    shutil.rmtree(place)
    if hidden:
        with pytest.raises(FileNotFoundError, match="hidden"):
            find_place(shown, tmp_path / "work")


@pytest.mark.parametrize(
    ("text", "told"),
    [("erase Alice Ng", "erase {Alice_Ng}"),
     ("ALICE.NG@x.org, alice-ng; AliceNg!", "{Alice_Ng}@x.org, {Alice_Ng}; {Alice_Ng}!"),
     ("https://x.org/?who=Alice%20Ng&room=2", "{https://x.org/?who=Alice%20Ng&room=2}"),
     ("Li and 2 of the limits on 2026-11-02", "{Li} and 2 of the limits on 2026-11-02"),
     ("fewer of Alice_Ng, José Peña, points, 李小龍", "fewer of 4 people"), ("消去:李小龍先生。", "消去:{李小龍}先生。"),
     ("JOSÉ PEÑA, jose pena", "{José Peña}, {José Peña}"), ("", ""), (None, None)],
)  # fmt: skip
def test_free_text(text, told, tmp_path):
    found = Hider(NAMES, SALT, tmp_path).text(text)
    for name in (*NAMES, text):
        told = told and told.replace(f"{{{name}}}", stand_in(name, SALT))
    assert found == told and Hider(NAMES, None, tmp_path).text(text) == text


def test_the_salt(tmp_path):
    salt = os.urandom(32)
    hiding.save_salt(tmp_path, salt)
    assert read_salt(tmp_path) == salt and (tmp_path / "record.salt").stat().st_mode & 0o777 == 0o600
    hiding.save_salt(tmp_path, os.urandom(32))
    assert read_salt(tmp_path) != salt  # each record has its own
    assert [path.name for path in tmp_path.iterdir()] == ["record.salt"]
    (tmp_path / "record.salt").write_text("no hex")
    with pytest.raises(RequestError, match=r"record.salt"):
        read_salt(tmp_path)
    assert hashed("\udcff", salt) != hashed(quote("x"), salt)  # a name that is not UTF-8
