"""Logs of records, and files that a record lists: torn, emptied, doubled, foreign, missing."""

import json
import shutil
from pathlib import Path

import pytest
from harness import is_done, is_refused, long, no_traceback, some
from helpers import read_json
from kit import PUBLISHED, TASKS

LINE = b'{"id": "0b9b0a2e-5d5f-4a5c-9c3a-1f2e3d4c5b6a"}\n'
BINARY = bytes(range(256)) * 4


def cut(count):
    return lambda data: data[:-count]


def change(path: Path, how) -> None:
    if how is None:
        path.unlink()
    else:
        path.write_bytes(how(path.read_bytes()))


def must_fail(done) -> None:
    no_traceback(done)
    assert done.code != 0 and ("FAILED" in done.out or done.code == 2), f"it passes: {done.out[-120:]} {done}"


# The file that --record-log names before the run, and whether the run appends to it; else it is refused.
BEFORE = {
    "torn": (b'{"id": "a", "record_', True), "without its last line break": (LINE[:-1], True), "empty": (b"", True),
    "good": (LINE, True), "text": (b"a list of records\nthat somebody keeps\n", False), "binary": (BINARY, False),
    "a list": (b"[1]\n", False), "a blank line": (b"\n", False),
}  # fmt: skip


@pytest.mark.parametrize("name", some(list(BEFORE), fast=1))
def test_an_existing_log(server, here, kit, name):
    content, appends = BEFORE[name]
    log = here.cwd / "records.jsonl"
    log.write_bytes(content)
    before = here.look()
    done = server.run(kit.argv("backdoor", "W", "--record-log", "records.jsonl"), here)
    if not appends:
        is_refused(done, here, before, "records.jsonl")
        return
    is_done(done)
    *lines, last = log.read_bytes().splitlines()
    assert lines == content.splitlines(), "lines of others were changed or glued"
    assert json.loads(last)["id"] == read_json(here.cwd, "W/record.json")["id"]


BESIDE = {
    "samples.txt gains a line": ("samples.txt", lambda data: data + b"forget set\tmore\n"),
    "samples.txt loses a line": ("samples.txt", lambda data: b"".join(data.splitlines(True)[1:])),
    "samples.txt is emptied": ("samples.txt", lambda data: b""),
    "samples.txt is binary": ("samples.txt", lambda data: BINARY), "samples.txt is gone": ("samples.txt", None),
    "record.html is changed": ("record.html", lambda data: data.replace(b"PASS", b"FAIL").replace(b"<h", b"<H", 1)),
    "record.html is gone": ("record.html", None), "the weights lose a byte": ("{weights}", cut(1)),
    "the weights have another byte": ("{weights}", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "the weights are gone": ("{weights}", None), "the weights are emptied": ("{weights}", lambda data: b""),
    "the salt is another": ("record.salt", lambda data: b"00" * 32 + b"\n"),
}  # fmt: skip


ROWS = [(task, name) for task in TASKS for name in BESIDE if task == "faces" or "salt" not in name]


@pytest.mark.parametrize(("task", "name"), some(ROWS, fast=5, only=lambda row: row[0] == "faces"))
def test_changed_files(server, here, copy_of, task, name):
    folder = copy_of(task)
    place, how = BESIDE[name]
    weights = PUBLISHED[task] if task == "segmentation" else f"{PUBLISHED[task]}/weights.safetensors"
    change(folder / place.format(weights=weights), how)
    words = ["--rerun", "--name", "Bo"] if "salt" in name else []
    done = server.run(["record", "verify", str(folder), *words], here)
    # The salt is a secret beside the record: without it names cannot be compared, and that is said.
    if "salt" in name:
        no_traceback(done)
        assert done.code or "NOT CHECKED" in done.out, f"{done.out}"
    else:
        must_fail(done)


@pytest.mark.parametrize("task", long("faces"))
def test_an_untouched_record_verifies(server, here, kit, copy_of, task):
    """Also without its original, which may be deleted."""
    folder = copy_of(task)
    is_done(server.run(["record", "verify", str(folder), "--key", kit.path("key.pub")], here))
    shutil.move(folder, here.cwd / "elsewhere")
    done = server.run(["record", "verify", "elsewhere"], here)
    is_done(done)
    assert "NOT CHECKED" in done.out
    is_done(server.run(["record", "keygen", "other"], here))
    must_fail(server.run(["record", "verify", "elsewhere", "--key", "other.pub"], here))
