"""Refusals before a run of what would prevent its record, and failures at its end that do not."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers import argv, read_json, run

from delete_tasks.errors import MissingExtraError, RequestError
from delete_tasks.plugins import plugin_modules
from delete_tasks.report.record import write
from delete_tasks.report.record.files import check_log
from delete_tasks.report.record.options import record_options
from delete_tasks.report.record.verify import FAILED, NOT_CHECKED, OK, verify
from delete_tasks.task import load_task


@pytest.fixture
def refused(colours, tmp_path, fails):
    """``refused(fact, *words)``: the run ends with status 2 and the message, and writes nothing."""
    (tmp_path / "runs").mkdir()

    def run(fact: str, *words: object) -> None:
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        command = argv("images forget --model", colours / "model", "--forget", colours / "data.npz", "--classes green")
        fails(fact, command, "--work-dir", tmp_path / "runs" / "run", "--device cpu", *words)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == kept

    return run


@pytest.mark.parametrize(("words", "fact"), [
    ("--accept forget_acc=nan", r"-1e\+06 to 1e\+06"), ("--accept forget_acc=inf", "'forget_acc=inf'"),
    ("--accept forget_acc=1e300", "'forget_acc=1e300'"), ("--accept forget_acc=1=2", "forget_acc"),
    ("--accept forget_acc=0x10", "'forget_acc=0x10'"), ("--accept forget_acc", "FIGURE=MOST"),
    ("--accept forget_acc=", "FIGURE=MOST"), ("--accept =1", "FIGURE=MOST"), ("--accept forget_acc=x", "FIGURE=MOST"),
    ("--accept forget_acc=1 forget_acc=2", "'forget_acc'"),
    ("--accept foo=1", "forget_acc, worst_drop, nll, ece, linear_probe, few_shot, forget_acc_train"),
    ("--accept forget_ac=1", "'forget_acc'"), ("--requested yesterday", "date"), ("--record-log .", "no file"),
    ("--record-log /dev/null", "/dev/null"), ("--record-log foreign.csv", "foreign.csv"),
    ("--record-log file/x.jsonl", "'file'"), ("--record-log w\udcff.jsonl", "UTF-8"),
])  # fmt: skip
def test_refused_before_the_run(words, fact, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("foreign.csv").write_text("id,path\n1,2\n")
    refused(fact, words)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, Path]:
    """Invalid keys and files that are no keys; ``good`` and ``good.pub`` are a pair."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    folder = tmp_path_factory.mktemp("keys")
    run("record keygen", folder / "good")
    pem, locked = (s.Encoding.PEM, s.PrivateFormat.PKCS8), s.BestAvailableEncryption(b"pass")
    contents = {"torn": (folder / "good").read_bytes()[:60], "text": b"secret", "empty": b"", "binary": bytes(range(256)),
                "rsa": rsa.generate_private_key(65537, 2048).private_bytes(*pem, s.NoEncryption()),
                "encrypted": ed25519.Ed25519PrivateKey.generate().private_bytes(*pem, locked)}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    return {name: folder / name for name in (*contents, "folder", "nowhere", "good", "good.pub")}


BAD_KEYS = ["torn", "text", "empty", "binary", "rsa", "encrypted", "folder", "nowhere"]


@pytest.mark.parametrize("name", [*BAD_KEYS, "good.pub", ""])
def test_a_key_that_cannot_sign_is_refused_before_the_run(name, refused, keys):
    refused(name or "--sign: expected a path", "--sign", [keys.get(name, "")])


@pytest.mark.parametrize("action", ["sign", "verify"])
@pytest.mark.parametrize("name", [*BAD_KEYS, "the other half", ""])
def test_a_bad_key_is_refused_and_the_record_stays(name, action, keys, copy, fails):
    run("record sign", copy, "--key", keys["good"])
    before = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    key = name and keys.get(name, keys["good.pub" if action == "sign" else "good"])
    fails(Path(key).name or "key", "record", action, copy, "--key", [key])
    assert {path: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before


def test_packages_that_write_records_are_required(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"delete-tasks\[record\]"):
        record_options(SimpleNamespace())
    record_options(SimpleNamespace(no_record=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match=r"records.jsonl"):
        check_log(tmp_path / "records.jsonl")


@pytest.mark.parametrize("task", sorted(plugin_modules()))
def test_figures_of_each_task(task, tmp_path):
    names = [figure.name for figure in load_task(task).metrics if figure.lower_is_better]
    args = {"command": task, "accept": [f"{name}=1" for name in names], "work_dir": str(tmp_path / "run")}
    assert record_options(SimpleNamespace(**args))["accept"] == dict.fromkeys(names, 1.0)
    with pytest.raises(RequestError, match=f"'{names[0]}x'.*'{names[0]}'"):
        record_options(SimpleNamespace(**{**args, "accept": [f"{names[0]}x=1"]}))


def test_the_record_is_written_without_its_log(forget, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write, "append", Mock(side_effect=OSError(28, "No space left on device")))
    folder = forget(tmp_path / "run", "--record-log", str(tmp_path / "records.jsonl"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "record_sha256" in line]
    assert "records.jsonl" in line
    assert json.loads(line[line.index("{") :])["id"] == read_json(folder, "record.json")["id"]
    assert not [check for check in verify(folder) if check.status == FAILED]


def test_the_record_is_written_without_its_signature(keys, forget, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write, "sign", Mock(side_effect=FileNotFoundError(2, "No such file", "key")))
    with pytest.raises(AssertionError):  # not status 0
        forget(tmp_path / "run", "--sign", str(keys["good"]))
    assert "not signed" in capsys.readouterr().err
    with pytest.raises(AssertionError):
        forget(tmp_path / "run", "--classes", "#1", "--sign", str(keys["good"]))  # green, as before
    assert "finished on" in capsys.readouterr().err  # the record that was written is not replaced
    assert not [check for check in verify(tmp_path / "run") if check.status == FAILED]


def test_an_earlier_records_signature_and_salt_are_deleted(keys, forget, copy):
    run("record sign", copy, "--key", keys["good"])
    assert {check.what: check.status for check in verify(copy, str(keys["good.pub"]))}["signature"] == OK
    (copy / "record.salt").write_text("00")
    forget(copy, "--overwrite")
    assert not (copy / "record.sha256.sig").exists() and not (copy / "record.salt").exists()
    assert {check.what: check.status for check in verify(copy)}["signature"] == NOT_CHECKED
