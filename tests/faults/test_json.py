"""Our own JSON files with content of others: refused in words, or as if the file were not there."""

import itertools
import json

import pytest
from commands import valid
from harness import no_leftovers, no_traceback, some
from helpers import argv

DEEP, NESTED = 100_000, 900  # more than any reader takes, and as much as Python's takes
CONTENTS = {
    "nothing": b"", "open": b"[", "object": b"{}", "list": b"[]", "null": b"null", "number": b"3", "text": b'"text"',
    "line break": b"\n",
    "deep lists": b"[" * DEEP, "deep objects": b'{"a":' * DEEP, "closed lists": b"[" * NESTED + b"]" * NESTED,
    "closed objects": b'{"a":' * NESTED + b"1" + b"}" * NESTED, "NaN": b"[NaN]", "infinite": b'{"a": 1e999}',
    "digits": b"9" * 5000,
    "surrogate": b'{"\\ud800": "\\udfff"}', "twice": b'{"a": 1, "a": 2}', "a mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no UTF-8": b'{"a": "\xff"}', "NUL": b"\x00" * 40, "rest": b"{} {}", "escape": b'{"\x1b[2J": "\\u001b]0;x\\u0007"}',
    "comment": b"{} // x",
}  # fmt: skip
# Within content that is valid otherwise.
FIELDS = {"nested field": "[" * NESTED + "]" * NESTED, "escape in a field": '"\\u001b]0;x\\u0007\\u009b2J"',
    "huge field": "9" * 4000,
          "surrogate in a field": '"\\ud800"'}  # fmt: skip
# Name of the file in the current folder -> words of the command that reads it.
READERS = {
    "W/results.json": lambda kit: argv("compare W"),
    "W/record.json": lambda kit: argv("record verify W"),
    "images/model.json": lambda kit: argv("images evaluate images --test", kit.path("images/data.npz")),
    "faces/enrolment.json": lambda kit: argv("faces remove --model faces --person Bo --work-dir X"),
    "ranking.json": lambda kit: argv("backdoor clean --poisoned ranking.json --target red --work-dir X --model",
                                     kit.path("backdoor/model")),
    "names.json": lambda kit: argv("faces import --backbone cifar_resnet20 --embedding-size 16 --head cosine",
                                   "--names names.json --out X --weights", kit.path("faces/model/weights.safetensors")),
    "config.json": lambda kit: argv("segmentation forget config.json --classes car --work-dir X --checkpoint",
                                    kit.path("seg/original.pth")),
    "grid.json": lambda kit: argv("benchmark grid.json --work-dir X"),
    "W/grid.json": lambda kit: argv("benchmark", kit.path("grid.py"), "--work-dir W --tables-only"),
    "X/.delete-tasks.json": lambda kit: kit.argv("images", "X", "--audit", "none", "--no-record"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    some(itertools.product(READERS, (*CONTENTS, *FIELDS)), 4, lambda row: "nested" in row[1] and row[0][0] != "X"),
)
def test_json(server, here, kit, copy_of, name, kind):
    words, path = READERS[name](kit), here.cwd / name
    if name.startswith("W/re"):
        copy_of("images")
    for model in ("images", "faces"):
        if name.startswith(f"{model}/"):
            (here.cwd / model).mkdir()
            for file in kit.original(model).iterdir():
                (here.cwd / model / file.name).write_bytes(file.read_bytes())
    path.parent.mkdir(exist_ok=True)
    whole = json.loads(path.read_text()) if path.exists() else {"a": 1}
    field = f'{json.dumps(whole)[:-1]}, "b": {FIELDS.get(kind)}}}'.encode()
    path.write_bytes(field if kind in FIELDS else CONTENTS[kind])
    done = server.run(words, here)
    no_traceback(done)
    no_leftovers(here)
    assert done.code in ((0, 2) if name[0] == "X" else (1, 2)), f"{done}"


@pytest.mark.parametrize("kind", some(CONTENTS, fast=1))
def test_arguments(server, here, kit, kind):
    """Values of --arguments are JSON, or texts."""
    value = CONTENTS[kind][:60_000].replace(b"\0", b"").decode(errors="surrogateescape")
    done = server.run([*valid(kit)["images import"], "--arguments", f"width={value}"], here)
    no_traceback(done)
    assert done.code == 2 and done.err, f"{done}"
