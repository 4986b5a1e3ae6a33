"""The log of records, the sums, the signature, and all that a record lists: torn, emptied, doubled, foreign, missing."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from harness import is_done, is_refused, no_traceback, some
from kit import PUBLISHED, TASKS

ENTRY = {
    "id": "0b9b0a2e-5d5f-4a5c-9c3a-1f2e3d4c5b6a",
    "created": "2026-01-02T03:04:05+00:00",
    "path": "/elsewhere/W",
    "record_sha256": "a" * 64,
    "original_tensors_sha256": "b" * 64,
    "erased_tensors_sha256": "c" * 64,
    "previous": None,
    "line_before_sha256": "0" * 64,
}
FOREIGN_LINE = json.dumps(ENTRY, sort_keys=True).encode() + b"\n"
BINARY = bytes(range(256)) * 4


def cut(count):
    return lambda data: data[:-count]


# What happens to records.jsonl after the run -> what verify must say: FAILED, or that it was not checked.
LOGS = {
    "emptied": (lambda data: b"", "FAILED"),
    "only a line break": (lambda data: b"\n", "FAILED"),
    "doubled": (lambda data: data + data, "FAILED"),
    "torn last line": (cut(9), "FAILED"),
    "lost its last byte": (cut(1), "FAILED|NOT CHECKED"),
    "truncated to half": (lambda data: data[: len(data) // 2], "FAILED"),
    "foreign": (lambda data: FOREIGN_LINE, "FAILED"),
    "foreign line before": (lambda data: FOREIGN_LINE + data, "FAILED"),
    "torn line of another run behind": (lambda data: data + data[: len(data) // 3], "FAILED|NOT CHECKED"),
    "binary": (lambda data: BINARY, "FAILED"),
    "a list": (lambda data: b"[1, 2]\n", "FAILED"),
    "numbers": (lambda data: b"7\n", "FAILED"),
    "null": (lambda data: b"null\n", "FAILED"),
    "a blank line behind": (lambda data: data + b"\n", "FAILED|NOT CHECKED"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "FAILED"),
    "deep nesting": (lambda data: b"[" * 100_000 + b"\n", "FAILED"),
    "another digest": (lambda data: data.replace(b'"record_sha256": "', b'"record_sha256": "0', 1), "FAILED"),
    "digest of a number": (
        lambda data: data.replace(b'"line_before_sha256": "', b'"line_before_sha256": 0, "x": "', 1),
        "FAILED",
    ),
    "without a path": (lambda data: data.replace(b'"path"', b'"road"', 1), "FAILED"),
    "removed": (None, "NOT CHECKED"),
}
SUMS = {
    "emptied": lambda data: b"",
    "one line taken out": lambda data: b"".join(data.splitlines(True)[1:]),
    "the last line taken out": lambda data: b"".join(data.splitlines(True)[:-1]),
    "a digest changed": lambda data: b"0" * 64 + data[64:],
    "a path out of the folder": lambda data: data + b"0" * 64 + b"  ../../etc/passwd\n",
    "an absolute path": lambda data: data + b"0" * 64 + b"  /etc/passwd\n",
    "a file that is not there": lambda data: data + b"0" * 64 + b"  nothing\n",
    "a torn line": cut(20),
    "binary": lambda data: BINARY,
    "no digest": lambda data: data.replace(data[:64], b"z" * 64, 1),
    "a folder's name": lambda data: data + b"0" * 64 + b"  erased\n",
    "an empty name": lambda data: data + b"0" * 64 + b"  \n",
    "removed": None,
}
SIGNATURES = {
    "emptied": lambda data: b"",
    "extra bytes behind": lambda data: data + b"AAAA\n",
    "extra bytes of base64 behind": lambda data: base64.b64encode(base64.b64decode(data) + b"more") + b"\n",
    "text behind": lambda data: data + b"and more\n",
    "one bit other": lambda data: (
        base64.b64encode(bytes([base64.b64decode(data)[0] ^ 1]) + base64.b64decode(data)[1:]) + b"\n"
    ),
    "torn": cut(12),
    "no base64": lambda data: b"\xff\xfe!!!\n",
    "junk between": lambda data: data[:10] + b"!\n?" + data[10:],
    "removed": None,
}


def change(path: Path, how) -> None:
    if how is None:
        path.unlink()
    else:
        path.write_bytes(how(path.read_bytes()))


def copy_of(recorded, task, here):
    shutil.copytree(recorded(task).parent, here.cwd, dirs_exist_ok=True)
    return here.cwd / "W"


def must_fail(done, allowed: str = "FAILED") -> None:
    no_traceback(done)
    if "NOT CHECKED" in allowed and done.code == 0:
        assert "log of records" in "".join(line for line in done.out.splitlines() if "NOT CHECKED" in line), (
            f"{done.out}"
        )
        return
    assert done.code != 0 and ("FAILED" in done.out or done.code == 2), f"it passes: {done.out[-120:]} {done}"


@pytest.mark.parametrize("name", some(list(LOGS), fast=6))
def test_logs(server, here, recorded, name):
    """Verify sees it; and the next run neither fails nor glues two lines together."""
    how, allowed = LOGS[name]
    folder = copy_of(recorded, "faces", here)
    change(folder.parent / "records.jsonl", how)
    must_fail(server.run(["record", "verify", str(folder)], here), allowed)


# A log beside the work dir before the run: does the run go on, and what is in the log then?
BEFORE = {
    "torn": b'{"id": "a", "record_',
    "without its last line break": FOREIGN_LINE[:-1],
    "foreign": b"a list of records\nthat somebody keeps\n",
    "binary": BINARY,
    "empty": b"",
    "a list": b"[1]\n",
    "a blank line": b"\n",
    "good": FOREIGN_LINE,
}


@pytest.mark.parametrize("name", some(list(BEFORE), fast=1))
def test_a_log_that_was_there_before(server, here, kit, name):
    log = here.cwd / "records.jsonl"
    log.write_bytes(BEFORE[name])
    before = here.look()
    done = server.run(kit.argv("backdoor", "W"), here)
    no_traceback(done)
    if done.code == 2:  # a log of somebody else's: refused before the first step, and left as it is
        assert name in ("foreign", "binary", "a list", "a blank line"), f"refused: {done}"
        is_refused(done, here, before, "records.jsonl|log")
    else:
        is_done(done)
        lines = log.read_bytes().splitlines()
        assert json.loads(lines[-1])["id"], "the last line is not the record's"
        if name not in ("torn", "empty"):
            assert log.read_bytes().startswith(BEFORE[name].rstrip(b"\n") + b"\n"), (
                "lines of others were changed or glued"
            )
        assert (here.cwd / "W/record.json").exists()
    for again in range(2 if done.code == 0 else 0):
        verified = server.run(["record", "verify", "W"], here)
        no_traceback(verified)
        assert verified.code == 0 or name not in ("good", "empty", "torn", "without its last line break"), verified.out
        if not again:
            is_done(server.run(kit.argv("backdoor", "W"), here))


def test_a_log_that_cannot_be_written(server, world, kit):
    kinds = {"a folder": lambda path: path.mkdir(), "a link to a folder": lambda path: path.symlink_to(".")}
    for name, make in kinds.items():
        here = world()
        make(here.cwd / "log.jsonl")
        before = here.look()
        is_refused(server.run(kit.argv("faces", "W", "--record-log", "log.jsonl"), here), here, before)


KEYS = {
    "a public key": "{public}",
    "no key": "{text}",
    "an empty file": "{empty}",
    "a folder": "{folder}",
    "nothing": "nowhere.pem",
    "an RSA key": "{rsa}",
    "an encrypted key": "{encrypted}",
    "binary": "{binary}",
    "an empty name": "",
}


def make_keys(kit, here) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    contents = {"text": b"secret", "empty": b"", "binary": BINARY}
    plain = (s.Encoding.PEM, s.PrivateFormat.PKCS8)
    contents["rsa"] = rsa.generate_private_key(65537, 2048).private_bytes(*plain, s.NoEncryption())
    contents["encrypted"] = ed25519.Ed25519PrivateKey.generate().private_bytes(
        *plain, s.BestAvailableEncryption(b"pass")
    )
    (here.root / "keys").mkdir()
    for name, content in contents.items():
        (here.root / "keys" / name).write_bytes(content)
    return {name: str(here.root / "keys" / name) for name in contents} | {
        "public": kit.path("key.pub"),
        "folder": str(here.root / "keys"),
    }


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "faces" else pytest.mark.faults) for t in TASKS])
def test_bad_keys_are_refused_before_the_first_step(server, world, kit, task):
    for name, given in KEYS.items():
        here = world()
        key = given.format(**make_keys(kit, here))
        before = here.look()
        is_refused(server.run(kit.argv(task, "W", "--sign", key), here), here, before)


def test_bad_keys_of_record_commands(server, world, kit, recorded):
    for name, given in KEYS.items():
        for action in ("sign", "verify"):
            here = world()
            folder = copy_of(recorded, "faces", here)
            key = given.format(**make_keys(kit, here))
            if action == "verify" and name == "a public key":
                key = kit.path("key")
            before = here.look()
            is_refused(server.run(["record", action, str(folder), "--key", key], here), here, before)


ACCEPT = ["forget_acc=nan", "forget_acc=inf", "forget_acc=-inf", "forget_acc=", "=1", "forget_acc", "forget_acc=1e400",
          "forget_acc=1=2", "forget_acc=0x10"]  # fmt: skip


@pytest.mark.parametrize("limit", ACCEPT)
def test_bad_limits_are_refused_before_the_first_step(server, here, kit, limit):
    before = here.look()
    is_refused(server.run(kit.argv("images", "W", "--accept", limit), here), here, before)


@pytest.mark.parametrize(
    ("kind", "name"), some([("sums", n) for n in SUMS] + [("signature", n) for n in SIGNATURES], fast=23)
)
def test_sums_and_signatures(server, here, kit, recorded, kind, name):
    """Each with and without the signer's key."""
    folder = copy_of(recorded, "faces", here)
    how = SUMS[name] if kind == "sums" else SIGNATURES[name]
    change(folder / ("record.sha256" if kind == "sums" else "record.sha256.sig"), how)
    must_fail(server.run(["record", "verify", str(folder), "--key", kit.path("key.pub")], here))
    if kind == "sums":
        must_fail(server.run(["record", "verify", str(folder)], here))


BESIDE = {
    "samples.txt gains a line": ("samples.txt", lambda data: data + b"forget set\tmore\n"),
    "samples.txt loses a line": ("samples.txt", lambda data: b"".join(data.splitlines(True)[1:])),
    "samples.txt is emptied": ("samples.txt", lambda data: b""),
    "samples.txt is binary": ("samples.txt", lambda data: BINARY),
    "samples.txt is gone": ("samples.txt", None),
    "record.html is changed": ("record.html", lambda data: data.replace(b"PASS", b"FAIL").replace(b"<h", b"<H", 1)),
    "record.html is gone": ("record.html", None),
    "record.json is emptied": ("record.json", lambda data: b""),
    "record.json is torn": ("record.json", lambda data: data[: len(data) // 2]),
    "record.json is binary": ("record.json", lambda data: BINARY),
    "record.json is a list": ("record.json", lambda data: b"[" + data + b"]"),
    "record.json has a key twice": ("record.json", lambda data: data.replace(b'{', b'{"task": "images",', 1)),
    "record.json has NaN": ("record.json", lambda data: data.replace(b"null", b"NaN", 1)),
    "record.json is deeply nested": ("record.json", lambda data: b"[" * 100_000),
    "record.json has a BOM": ("record.json", lambda data: b"\xef\xbb\xbf" + data),
    "the weights lose a byte": ("{weights}", cut(1)),
    "the weights have another byte": ("{weights}", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "the weights are gone": ("{weights}", None),
    "the weights are emptied": ("{weights}", lambda data: b""),
    "the salt is another": ("record.salt", lambda data: b"00" * 32 + b"\n"),
}  # fmt: skip


def beside_rows():
    return [(task, name) for task in TASKS for name in BESIDE if task == "faces" or "salt" not in name]


@pytest.mark.parametrize(("task", "name"), some(beside_rows(), fast=20, only=lambda row: row[0] == "faces"))
def test_what_lies_beside(server, here, recorded, task, name):
    folder = copy_of(recorded, task, here)
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


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "faces" else pytest.mark.faults) for t in TASKS])
def test_an_untouched_record_verifies(server, here, kit, recorded, task):
    """And one whose original is gone, as it may well be."""
    folder = copy_of(recorded, task, here)
    is_done(server.run(["record", "verify", str(folder), "--key", kit.path("key.pub")], here))
    shutil.move(folder, here.cwd / "elsewhere")
    (here.cwd / "records.jsonl").unlink()
    done = server.run(["record", "verify", "elsewhere"], here)
    is_done(done)
    assert "NOT CHECKED" in done.out
    is_done(server.run(["record", "keygen", "other"], here))
    must_fail(server.run(["record", "verify", "elsewhere", "--key", "other.pub"], here))
