"""Content of records, and changes that verify detects."""

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest
from helpers import edit_json, read_json, run

from delete_tasks.audit.verdict import STATUSES
from delete_tasks.errors import RequestError
from delete_tasks.fileio.checkpoint import file_sha256
from delete_tasks.fileio.digests import read_sums, write_sums
from delete_tasks.report.record.files import append
from delete_tasks.report.record.verify import FAILED, NOT_CHECKED, SCHEMA, verify


def read(folder: Path) -> dict:
    return read_json(folder, "record.json")


def failed(folder: Path, **options) -> list[str]:
    return [check.what for check in verify(folder, **options) if check.status == FAILED]


def test_content(recorded, colours):
    record = read(recorded)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(record)
    assert record["request"] == {"reference": "REQ-7", "date": "2026-11-02", "signature": False}
    assert record["forgotten"]["classes"] == [{"id": 1, "name": "green", "salted_sha256": None}]
    assert record["method"]["name"] == "DELETE" and record["method"]["settings"]["steps_done"] == 4
    assert record["method"]["settings"]["teacher_temperature"] == 0.25 and record["seeds"] == {"run": 0}
    assert record["samples"]["read"] == {"forget set": 10} and record["samples"]["available"] == 40
    assert [line.split("\t")[0] for line in (recorded / "samples.txt").read_text().splitlines()] == ["forget set"] * 10
    models = record["models"]
    assert models["erased"]["path"] == "erased" and len(models["erased"]["files"]) == 2
    assert models["original"]["tensors_sha256"] != models["erased"]["tensors_sha256"]
    assert record["environment"]["packages"]["torch"]
    figures = {figure["name"]: figure for figure in record["figures"]}
    names = {"forget_acc", "forget_acc_train", "remain_drop", "worst_drop", "still_predicted", "nll_rise", "ece_rise"}
    assert figures["remain_drop"]["limit_set_by"] == "user" and figures["remain_drop"]["at_most"] == 50
    assert all(figure["status"] in STATUSES for figure in record["figures"])
    counts = dict.fromkeys(names, 10) | dict.fromkeys(("remain_drop", "nll_rise", "ece_rise"), 30)
    assert {name: figure["count"] for name, figure in figures.items()} == counts | {"still_predicted": 8}
    for figure in record["figures"]:
        low, high = figure["interval"] or (figure["value"], figure["value"])
        assert low <= figure["value"] <= high and (figure["interval"] or figure["note"])
    where = {item["where"]: item["what"] for item in record["residue"]}
    assert where[str((colours / "model" / "weights.safetensors").resolve())].startswith("the original")
    assert "results.json" in where and "record.json" not in where
    pictures = {"attention.jpg", "audit.png", "confusion_before_after.png", "tsne.png"}
    assert {picture["path"] for picture in record["pictures"]} == pictures
    assert set(read_sums(recorded)) == {"record.json", "record.html", "samples.txt"}


def test_words(recorded, repository):
    """A record is evidence, not a certificate."""
    texts = [recorded / "record.json", recorded / "record.html"]
    texts += [*(repository / "delete_tasks" / "report" / "record").iterdir(), *(repository / "docs").glob("record.md")]
    for path in texts:
        if path.is_file():
            text = path.read_text().lower()
            assert "certificate" not in text and "guarantee" not in text, path


def test_one_byte_of_the_model(copy, tells):
    path = copy / "erased" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert failed(copy) == ["erased model: file erased/weights.safetensors", "erased model: tensors"]
    assert "FAILED erased model: file erased/weights.safetensors" in tells("record verify", copy, status=1)


def test_a_new_measurement_finds_a_changed_figure(copy, write_anew):
    """It finds a change behind digests that were computed again."""
    record = read(copy)
    record["figures"][0]["value"] = (record["figures"][0]["value"] + 7) % 100
    write_anew(copy, record)
    assert failed(copy) == []
    assert failed(copy, rerun=True) == ["figure forget_acc"]


def test_a_changed_line_of_the_samples_or_figure_is_found_and_nothing_is_measured_again(copy):
    lines = (copy / "samples.txt").read_text().splitlines()
    (copy / "samples.txt").write_text("\n".join([lines[0] + "x", *lines[1:]]) + "\n")
    assert failed(copy) == ["samples.txt", "sample list (samples.txt)"]
    checks = {check.what: check for check in verify(copy, rerun=True)}
    assert checks["figures"].status == NOT_CHECKED and "2 checks failed" in checks["figures"].why
    (copy / "samples.txt").write_text("\n".join(lines) + "\n")
    edit_json(copy / "record.json", lambda record: record["figures"][0].update(value=0.01))
    assert failed(copy) == ["record.json: section 'figures'", "record.json"]


def test_missing_and_added_files(copy):
    (copy / "record.html").unlink()
    (copy / "erased" / "added.txt").write_text("x")
    (copy / "attention.jpg").unlink()
    checks = {check.what: check for check in verify(copy)}
    assert checks["record.html"].status == FAILED and checks["erased model: file erased/added.txt"].status == FAILED
    assert checks["picture attention.jpg"].status == NOT_CHECKED
    shutil.rmtree(copy / "erased")
    assert "erased model" in failed(copy)


def test_not_a_record(tmp_path, fails):
    fails("record.json", "record verify", tmp_path)
    for text, message in (
        ("{", "JSON"),
        ("{}", "format"),
        ('{"format": "delete-tasks erasure record"}', "schema_version: None"),
        ('{"format": "delete-tasks erasure record", "schema_version": true}', "schema_version: True"),
    ):
        (tmp_path / "record.json").write_text(text)
        first = verify(tmp_path)[0]
        assert first.status == FAILED and message in first.why, first
    (tmp_path / "record.json").write_text('{"format": "delete-tasks erasure record", "schema_version": 4}')
    assert "schema_version: 4" in verify(tmp_path)[0].why
    for name in ("record.html", "samples.txt"):
        (tmp_path / name).touch()
    write_sums(tmp_path, ["record.json", "record.html", "samples.txt"])
    with pytest.raises(RequestError, match=r"version 4, .*3"):
        verify(tmp_path)


def signature(folder: Path, key: str | None = None) -> tuple[str, str]:
    return next((check.status, check.why) for check in verify(folder, key) if check.what == "signature")


def test_signature(copy, tmp_path, fails):
    key, public = str(tmp_path / "key"), str(tmp_path / "key.pub")
    run("record keygen", key)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    fails("key", "record keygen", key)  # never written over
    assert "signature" in failed(copy, key=public)
    assert signature(copy) == (NOT_CHECKED, "there is no record.sha256.sig, so only accidental change is detected")
    page = (copy / "record.html").read_text()
    run("record sign", copy, "--key", key)
    assert (copy / "record.html").read_text() == page and "A signature, made with this page or later, would be" in page
    assert not failed(copy, key=public) and f"of the key '{public}'" in signature(copy, public)[1]
    assert signature(copy) == (NOT_CHECKED, "record.sha256.sig is there; pass the signer's public key to --key")
    run("record keygen", tmp_path / "other")
    assert failed(copy, key=str(tmp_path / "other.pub")) == ["signature"]
    checks = {check.what: check for check in verify(copy, key=str(tmp_path / "other.pub"), rerun=True)}
    assert checks["figures"].status == NOT_CHECKED and "figure forget_acc" not in checks
    with open(copy / "record.sha256", "a") as file:
        file.write("0" * 64 + "  extra\n")
    assert "signature" in failed(copy, key=public)


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_a_key_that_others_can_read_signs_nothing(copy, tmp_path, fails, mode):
    run("record keygen", tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    fails(f"mode {mode:04o}.*chmod 600", "record sign", copy, "--key", tmp_path / "key")
    assert not (copy / "record.sha256.sig").exists()


@pytest.mark.parametrize("name", ["record.json", "record.html", "samples.txt", "record.sha256"])
@pytest.mark.parametrize("change", ["changed", "missing"])
def test_sums_that_do_not_fit_are_not_signed(copy, tmp_path, fails, name, change):
    run("record keygen", tmp_path / "key")
    (copy / name).write_text("changed") if change == "changed" else (copy / name).unlink()
    fails("fit|no record.sha256", "record sign", copy, "--key", tmp_path / "key")
    assert not (copy / "record.sha256.sig").exists()


def test_the_log_and_modes_and_limits_in_the_terminal(forget, tmp_path, capsys):
    """Each run with the option appends one line; files follow the umask; the limits have 80 columns."""
    log, usual = tmp_path / "logs" / "records.jsonl", os.umask(0o077)
    try:
        first = forget(tmp_path / "first", "--record-log", str(log), "--accept", "linear_probe=3")
    finally:
        os.umask(usual)
    assert (first / "record.json").stat().st_mode & 0o777 == log.stat().st_mode & 0o777 == 0o600
    shown = capsys.readouterr().out.splitlines()
    (begin,) = [number for number, line in enumerate(shown) if line.startswith("Limits: ")]
    told = shown[begin : [line.startswith("Erasure record: ") for line in shown].index(True)]
    assert max(map(len, told)) <= 80 and "limit 5    10 test images [" in "\n".join(told)
    for name in ("forget_acc", "forget_acc_train", "remain_drop", "worst_drop", "linear_probe"):
        assert any(name in line for line in told)
    folders = [first, forget(tmp_path / "second", "--record-log", str(log))]
    assert (folders[1] / "record.json").stat().st_mode & 0o777 == 0o666 & ~usual
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for folder, line in zip(folders, lines, strict=True):
        record = read(folder)
        assert line == {
            "id": record["id"],
            "created": record["created"],
            "path": str(folder),
            "record_sha256": file_sha256(folder / "record.json"),
            "original_tensors_sha256": record["models"]["original"]["tensors_sha256"],
            "erased_tensors_sha256": record["models"]["erased"]["tensors_sha256"],
        }
        assert not failed(folder)


@pytest.mark.parametrize("torn", [b'{"created": "2026-11-', b'{"id": "1"}', b"{" + b"\0" * 9])
def test_a_log_without_its_last_line_break(torn, tmp_path):
    """The next record begins a new line, and no line is changed."""
    log = tmp_path / "records.jsonl"
    append(log, {"id": "0"})
    log.write_bytes(log.read_bytes() + torn)
    append(log, {"id": "2"})
    assert log.read_bytes() == b'{"id": "0"}\n' + torn + b'\n{"id": "2"}\n'


def test_no_record(forget, recorded, tmp_path, capsys):
    assert not list(recorded.parent.rglob("*.jsonl")), "no log was asked for"
    forget(tmp_path / "run", "--no-record")
    assert not (tmp_path / "run" / "record.json").exists() and not (tmp_path / "records.jsonl").exists()
    assert "Limits: " in capsys.readouterr().out


def test_the_picture_of_several_classes_shows_each(forget, tmp_path, monkeypatch):
    """No forgotten class is shown as a retained one."""
    from delete_tasks.attention import panels

    drawn, draw = [], panels.draw

    def drawing(path, looks, names):
        drawn.extend(looks)
        draw(path, looks, names)

    monkeypatch.setattr(panels, "draw", drawing)
    forget(tmp_path / "run", "--classes", "red", "green")
    assert {look.sample.class_id for look in drawn if look.sample.removed} == {0, 1}
    assert {look.sample.class_id for look in drawn if not look.sample.removed} == {2, 3}
