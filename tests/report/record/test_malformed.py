"""Changed files of a record: verify reports FAILED with the file, or NOT CHECKED with the reason, and never OK."""

import shutil
from base64 import b64decode, b64encode

import pytest
from helpers import run
from hypothesis import given
from hypothesis import strategies as st

from delete_tasks.display.terminal import from_line, one_line, printable
from delete_tasks.errors import RequestError
from delete_tasks.fileio.digests import canonical
from delete_tasks.report.record.files import SampleList, write_samples
from delete_tasks.report.record.verify import FAILED, NOT_CHECKED, OK, verify

DIGEST = "0" * 64
SUMS = {  # name -> (change of the lines of record.sha256, text of the failed check)
    "empty": (lambda lines: [], "empty"), "the first line taken out": (lambda lines: lines[1:], "record.json"),
    "the last line taken out": (lambda lines: lines[:2], "samples.txt"),
    "a line doubled": (lambda lines: [*lines, lines[0]], "record.json"),
    "a digest changed": (lambda lines: [DIGEST + lines[0][64:], *lines[1:]], "record.json"),
    "no digest": (lambda lines: ["x" * 64 + lines[0][64:], *lines[1:]], "line"),
    "below a file": (lambda lines: [*lines, lines[0] + "/../x"], "line"),
    "a path out of the folder": (lambda lines: [*lines, f"{DIGEST}  ../../etc/passwd"], "line"),
    "an absolute path": (lambda lines: [*lines, f"{DIGEST}  /etc/passwd"], "line"),
    "a file that is not there": (lambda lines: [*lines, f"{DIGEST}  nothing"], ""),
    "a folder's name": (lambda lines: [*lines, f"{DIGEST}  erased"], ""),
    "an empty name": (lambda lines: [*lines, f"{DIGEST}  "], ""), "no line": (lambda lines: [*lines, ""], "line"),
    "a torn line": (lambda lines: [*lines[:2], lines[2][:-20]], ""),
    "binary": (lambda lines: [bytes(range(256)).decode("latin-1")], ""),
}  # fmt: skip


@pytest.mark.parametrize("what", SUMS)
def test_the_digests(what, copy):
    change, why = SUMS[what]
    path = copy / "record.sha256"
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())), encoding="latin-1")
    failed = [check for check in verify(copy) if check.status == FAILED]
    assert failed and any(why in f"{check.what} {check.why}" for check in failed), failed


def test_incomplete_or_missing_digests(copy):
    path = copy / "record.sha256"
    path.write_text(path.read_text().rstrip("\n"))
    assert any(check.status == FAILED for check in verify(copy))
    path.unlink()
    assert any(check.status == FAILED for check in verify(copy))


SIGNATURES = {
    "emptied": lambda data: b"", "a line break behind": lambda data: data + b"\n",
    "a blank behind": lambda data: data + b" ", "text behind": lambda data: data + b"extra",
    "bytes behind": lambda data: data + b"AAAA\n",
    "bytes of base64 behind": lambda data: b64encode(b64decode(data) + b"more") + b"\n",
    "one bit other": lambda data: b64encode(bytes([b64decode(data)[0] ^ 1]) + b64decode(data)[1:]) + b"\n",
    "torn": lambda data: data[:-12], "no base64": lambda data: b"\xff\xfe!!!\n",
    "junk between": lambda data: data[:10] + b"!\n?" + data[10:], "deleted": None,
}  # fmt: skip


@pytest.fixture
def signed(copy, tmp_path):
    """The record's folder, signed, and the public key."""
    run("record keygen", tmp_path / "key")
    run("record sign", copy, "--key", tmp_path / "key")
    return copy, str(tmp_path / "key.pub")


@pytest.mark.parametrize("what", SIGNATURES)
def test_the_signature(what, signed):
    folder, key = signed
    assert not [check for check in verify(folder, key=key) if check.status == FAILED]
    path, change = folder / "record.sha256.sig", SIGNATURES[what]
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(data))
    assert [check.what for check in verify(folder, key=key) if check.status == FAILED] == ["signature"]


@given(st.text(alphabet=st.characters()), st.text())
def test_names_on_one_line(name, other):
    """Lone surrogates, as in file names that are not UTF-8, are kept."""
    for text in (name, f'{name}\udcff\n\r\x0b\x0c\x1c\x85\u2028\u2029\t\\"{other}'):
        line = one_line(text)
        assert from_line(line) == text and len(line.splitlines()) <= 1 and "\t" not in line
        line.encode()
        printable(text).encode()
        canonical({"a": text})


@pytest.mark.parametrize("salt", [None, b"salt"])
def test_a_list_of_samples(salt, tmp_path):
    names = ["a\nb", "c\r", "d\x0c", "e\u0085", "f\u2028", "g\udcff", 'h"\\', "plain/é.png"]
    write_samples(tmp_path / "samples.txt", {"forget set": names, "clean\nsamples": names[:2]}, salt)
    text = (tmp_path / "samples.txt").read_text()
    assert text.count("\n") == 10 == len(text.splitlines())
    assert salt is not None or "forget set\tplain/é.png" in text
    listed = SampleList(tmp_path / "samples.txt", salt)
    order = range(8) if salt else range(7, -1, -1)  # hashes tell no order
    assert listed.places("forget set", names[::-1]) == list(order)
    assert listed.places("clean\nsamples", names) == [0, 1]
    with pytest.raises(RequestError, match="1 of 8 samples"):
        listed.places("forget set", names[1:])
    with pytest.raises(RequestError, match="two samples"):
        listed.places("forget set", [*names, names[0]])


def test_a_run_on_files_with_line_breaks_in_their_names(colours, forget, tmp_path):
    import numpy as np
    from PIL import Image

    with np.load(colours / "data.npz") as data:
        for number, (image, label) in enumerate(zip(data["x_train"][:32], data["y_train"][:32], strict=True)):
            folder = tmp_path / "photos" / str(data["classes"][label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}\n\u2028\x0c.png")
    folder = forget(tmp_path / "run", "--forget", str(tmp_path / "photos"))
    checks = verify(folder, rerun=True)
    assert not [check for check in checks if check.status == FAILED]
    assert next(check for check in checks if check.what == "figure forget_acc_train").status == OK
    shutil.rmtree(tmp_path / "photos")
    gone = {check.what: check for check in verify(folder, rerun=True)}
    assert gone["figure forget_acc_train"].status == NOT_CHECKED and "photos" in gone["figure forget_acc_train"].why
    assert gone["figure forget_acc"].status == OK  # one that cannot be measured hides no other
