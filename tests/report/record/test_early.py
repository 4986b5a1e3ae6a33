"""What could cost a finished run its record is refused before it begins; what fails at its end costs nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from delete_tasks.cli import main
from delete_tasks.errors import MissingExtraError, RequestError
from delete_tasks.fileio.digests import describe_model
from delete_tasks.report.record.log import check_log
from delete_tasks.report.record.options import check_record_options, record_options
from delete_tasks.report.record.people import Hider
from delete_tasks.report.record.residue import residue
from delete_tasks.report.record.verify import FAILED, NOT_CHECKED, OK, verify
from delete_tasks.task import load_task


@pytest.fixture
def refused(colours, tmp_path, capsys):
    """``refused(message, *words)``: the run ends with status 2 and the message, and nothing was written."""
    (tmp_path / "runs").mkdir()

    def run(message: str, *words: str) -> None:
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        data = str(colours / "data.npz")
        command = ["images", "forget", "--model", str(colours / "model"), "--forget", data, "--classes", "green"]
        assert main([*command, "--work-dir", str(tmp_path / "runs" / "run"), "--device", "cpu", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == kept

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept", "forget_acc=nan"], "takes FIGURE=MOST with a number from -1e+06 to 1e+06"),
        (["--accept", "forget_acc=inf"], "got 'forget_acc=inf'"),
        (["--accept", "forget_acc=1e300"], "got 'forget_acc=1e300'"),
        (["--accept", "forget_acc"], "takes FIGURE=MOST"),
        (["--accept", "=1"], "takes FIGURE=MOST"),
        (["--accept", "forget_acc=x"], "takes FIGURE=MOST"),
        (["--accept", "forget_acc=1", "forget_acc=2"], "names 'forget_acc' twice"),
        (
            ["--accept", "foo=1"],
            "There are: forget_acc, worst_drop, nll, ece, linear_probe, few_shot, forget_acc_train",
        ),
        (["--accept", "forget_ac=1"], "did you mean 'forget_acc'?"),
        (["--requested", "yesterday"], "expected a date"),
        (["--sign", "nowhere"], "no key at 'nowhere'"),
        (["--sign", "KEY.pub"], "is no private key that can be read"),
        (["--sign", "rsa"], "holds a RSAPrivateKey; expected an Ed25519 private key"),
        (["--sign", "torn"], "is no private key that can be read"),
        (["--record-log", "."], "is no file"),
        (["--record-log", "/dev/null"], "is no file"),
        (["--record-log", "foreign.csv"], "'foreign.csv' does not begin with '{'"),
        (["--record-log", "KEY/x.jsonl"], "'KEY' is no folder"),
        (["--record-log", "w\udcff.jsonl"], "is not plain UTF-8"),
    ],
)
def test_refused_before_the_run(words, message, refused, tmp_path, monkeypatch, capsys):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    monkeypatch.chdir(tmp_path)
    main(["record", "keygen", "KEY"])
    capsys.readouterr()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    Path("rsa").write_bytes(key.private_bytes(*pem))
    Path("torn").write_bytes(Path("KEY").read_bytes()[:60])
    Path("foreign.csv").write_text("id,path\n1,2\n")
    refused(message, *words)


def test_what_writes_a_record_must_be_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"delete-tasks\[record\]"):
        check_record_options({})
    check_record_options({"skip": True})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match="is not writable"):
        check_log(tmp_path / "records.jsonl")


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("segmentation", ["forget_iou", "others_drop", "still_predicted", "unexpected"]),
        (
            "images",
            [
                "forget_acc",
                "worst_drop",
                "nll",
                "ece",
                "linear_probe",
                "few_shot",
                "forget_acc_train",
                "remain_drop",
                "still_predicted",
                "nll_rise",
                "ece_rise",
                "unexpected",
            ],
        ),
        (
            "faces",
            [
                "identified",
                "kept_drop",
                "verified",
                "verified_1e3",
                "verified_1e4",
                "verified_1e5",
                "verified_as_others",
                "verified_as_others_1e3",
                "nll",
                "ece",
                "nll_rise",
                "ece_rise",
            ],
        ),
        ("backdoor", ["asr", "base", "worst_drop", "acc_drop", "nll", "ece", "nll_rise", "ece_rise"]),
    ],
)
def test_each_task_says_its_figures_up_front(task, names, tmp_path):
    assert [figure.name for figure in load_task(task).figures] == names
    args = {"command": task, "accept": [f"{name}=1" for name in names], "work_dir": str(tmp_path / "run")}
    assert record_options(SimpleNamespace(**args))["accept"] == dict.fromkeys(names, 1.0)
    with pytest.raises(RequestError, match=f"'{names[0]}x'.*did you mean '{names[0]}"):
        record_options(SimpleNamespace(**{**args, "accept": [f"{names[0]}x=1"]}))


def test_a_log_lost_during_the_run_does_not_cost_the_record(forget, tmp_path, monkeypatch, capsys):
    from delete_tasks.report.record import write

    def full(path, entry):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "append", full)
    run = forget(tmp_path / "run", "--record-log", str(tmp_path / "records.jsonl"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "could not be written" in line]
    record = json.loads((run / "record.json").read_text())
    assert "records.jsonl" in line and json.loads(line.partition("Its line: ")[2])["id"] == record["id"]
    assert not [check for check in verify(run) if check.status == FAILED]


def test_a_key_lost_during_the_run_does_not_cost_the_record(colours, forget, tmp_path, monkeypatch, capsys):
    from delete_tasks.report.record import write

    def gone(folder, key):
        raise FileNotFoundError(2, "No such file", key)

    main(["record", "keygen", str(tmp_path / "key")])
    monkeypatch.setattr(write, "sign", gone)
    with pytest.raises(AssertionError):  # not status 0
        forget(tmp_path / "run", "--sign", str(tmp_path / "key"))
    assert "is written, but not signed" in capsys.readouterr().err
    assert not [check for check in verify(tmp_path / "run") if check.status == FAILED]


def test_an_earlier_records_signature_and_salt_go(forget, tmp_path):
    main(["record", "keygen", str(tmp_path / "key")])
    run = forget(tmp_path / "run", "--sign", str(tmp_path / "key"))
    assert {check.what: check.status for check in verify(run, str(tmp_path / "key.pub"))}["signature"] == OK
    (run / "record.salt").write_text("00")
    forget(tmp_path / "run", "--resume")
    assert not (run / "record.sha256.sig").exists() and not (run / "record.salt").exists()
    assert {check.what: check.status for check in verify(run)}["signature"] == NOT_CHECKED


def test_temporary_files_are_residue_and_no_part_of_the_model(recorded, tmp_path):
    import shutil

    shutil.copytree(recorded, tmp_path / "run")
    for place in (".", "erased"):
        (tmp_path / "run" / place / ".weights.safetensors.x1.delete-tasks.tmp").write_bytes(b"half")
    (tmp_path / "run" / "step_4.pth").write_bytes(b"state")
    found = residue(
        tmp_path / "run", "original.pth", str(tmp_path / "run" / "erased"), Hider([], None, tmp_path / "run")
    )
    where = {item["where"]: item["what"] for item in found}
    for name in (".weights.safetensors.x1.delete-tasks.tmp", "erased/.weights.safetensors.x1.delete-tasks.tmp"):
        assert where[name].startswith("temporary file")
    assert "optimizer" in where["step_4.pth"]
    assert any(name.endswith(".log") and what.startswith("log of the run") for name, what in where.items())
    assert not any(name.startswith("erased/") and not name.endswith(".tmp") for name in where)
    files = [file["path"] for file in describe_model(tmp_path / "run" / "erased", tmp_path / "run")["files"]]
    assert sorted(files) == ["erased/model.json", "erased/weights.safetensors"]


def test_what_is_written_follows_the_umask(forget, faced, tmp_path):
    old = os.umask(0o077)
    try:
        run = forget(tmp_path / "run", "--record-log", str(tmp_path / "records.jsonl"))
    finally:
        os.umask(old)
    assert (tmp_path / "records.jsonl").stat().st_mode & 0o777 == 0o600
    assert (faced / "record.salt").stat().st_mode & 0o777 == 0o600
    assert (faced / "record.json").stat().st_mode & 0o777 == 0o666 & ~old
    assert run.is_dir()
