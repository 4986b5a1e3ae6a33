"""Records with changed fields: verify reports FAILED with the field, never raises, and never runs code that a record names."""

import itertools
import json
from typing import Any

import pytest
from harness import long, no_traceback, some
from helpers import read_json
from kit import TASKS
from mutate import VALUES, changed, get, paths, verify, write


def name_of(path) -> str:
    return "/".join(map(str, path))


def judge(path, kind, answer) -> str:
    """Describe a wrong answer to a changed field; empty if the answer is FAILED and names the field."""
    code, said = answer
    right = code in (1, 2, 4) and "Traceback" not in said and (code == 2 or "FAILED" in said)
    named = any(key in said for key in path if isinstance(key, str))
    return "" if right and named else f"{name_of(path)} is {kind}: {code}, {said[-300:]}"


def table(record, seed):
    """Yield every field with some values that differ from its own."""
    values = itertools.cycle(list(VALUES.items())[seed:] + list(VALUES.items())[:seed])
    for path in paths(record):
        for _ in range(3):
            kind, value = next(values)
            if get(record, path) != value:
                yield path, kind, value


def every(few: int, many: int, **of: int) -> list[Any]:
    """Make parameters ``task, every``: one in so many rows of the table, of images with all tests, and more with the mark
    ``faults``."""
    return [("images", few), *(pytest.param(task, of.get(task, many), marks=pytest.mark.faults) for task in TASKS)]


@pytest.mark.parametrize(("task", "every"), every(27, 3, faces=1))
def test_every_field(server, here, copy_of, task, every):
    """Each section, and of the fields in it one in ``every``."""
    folder = copy_of(task)
    whole = enumerate(table(read_json(folder, "record.json"), TASKS.index(task)))
    rows = [row for number, row in whole if number % every == 0 or len(row[0]) == 1]
    answers = verify(server, here, folder, [[path, value, False] for path, _, value in rows])
    wrong = [judge(path, kind, answer) for (path, kind, _), answer in zip(rows, answers, strict=True)]
    assert len(rows) > 250 and not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize(("task", "every"), every(24, 6))
@pytest.mark.parametrize("measured", [pytest.param(False, marks=pytest.mark.faults), True])
def test_every_field_with_digests_that_agree(server, here, copy_of, task, every, measured):
    """A value that fits the schema and the other files may pass; none raises, not even with --rerun."""
    folder = copy_of(task)
    rows = [
        row for row in table(read_json(folder, "record.json"), 5) if (row[0][0] in ("measurement", "task")) == measured
    ][:: 6 if measured else every]
    words = ["--rerun", "--name", "Bo"] if measured else []
    answers = verify(server, here, folder, [[path, value, True] for path, _, value in rows], words)
    for (path, kind, _), (code, said) in zip(rows, answers, strict=True):
        assert code in (0, 1, 2, 4) and "Traceback" not in said, f"{name_of(path)} is {kind}: {said[-500:]}"
        schema = [line for line in said.splitlines() if "FAILED" in line and "schema" in line]
        assert not schema or str(path[0]) in said, f"{name_of(path)} is {kind}: {schema}"


WRONG_TYPES = {"object": ["text", "list", "null", "gone", "number"], "list": ["object", "text", "number", "gone"],
               "text": ["number", "list", "object", "gone"]}  # fmt: skip


@pytest.mark.parametrize("task", long("faces"))
def test_malformed_with_digests_that_agree(server, here, copy_of, task):
    """Even with digests that a forger computed again, the schema reports the field."""
    folder = copy_of(task)
    record = read_json(folder, "record.json")
    required = record.keys() - {"format", "schema_version", "section_sha256"}
    nullable = {"measured_on", "measurement", "results", "picture_note", "forget_check", "audit", "done"}
    kinds = {dict: "object", list: "list", str: "text"}
    rows = []
    for name in sorted(required):
        for kind in WRONG_TYPES.get(kinds.get(type(record[name]), ""), ["list", "gone"]):
            if not (name in nullable and kind in ("null", "text", "object")):
                rows.append(((name,), kind, VALUES[kind]))
    inner = [("models", "erased", "files"), ("models", "original", "path"), ("samples", "list"), ("samples", "read"),
             ("forgotten", "classes"), ("method", "settings"), ("models", "erased", "tensors_sha256"), ("figures", 0, "value"),
             ("figures", 0, "status"), ("request", "date"), ("code", "package"), ("seeds", "run"), ("samples", "list_sha256"),
             ("forgotten", "classes", 0, "id"), ("models", "erased", "files", 0, "sha256"), ("residue", 0, "where")]  # fmt: skip
    rows += [
        (path, kind, VALUES[kind])
        for path in inner
        for kind in ("list", "gone", "text")
        if (kind != "text" or not isinstance(get(record, path), str)) and changed(record, path, VALUES[kind]) != record
    ]
    rows = rows[:: 1 if task == "images" else 2]
    answers = verify(server, here, folder, [[path, value, True] for path, _, value in rows])
    wrong = [judge(path, kind, answer) for (path, kind, _), answer in zip(rows, answers, strict=True)]
    assert not any(wrong), "\n".join(filter(None, wrong))


# What a record must not make verify do

RUNS = {
    "subprocess.check_call": {"args": ["touch", "{canary}"]},
    "os.system": {"command": "touch {canary}"},
    "mmengine.Config.fromfile": {"filename": "{script}"},
    "canary.Class": {},
    "pathlib.Path.touch": {"self": "{canary}"},
}
PLACES = {
    "segmentation": [
        ("options", "config", "test_dataloader", "dataset"),
        ("options", "config", "test_dataloader", "dataset", "pipeline", 0),
        ("options", "config", "test_dataloader", "dataset", "pipeline", -1),
        ("options", "config", "model"),
        ("options", "config", "model", "backbone"),
        ("options", "config", "model", "decode_head"),
        ("options", "config", "model", "data_preprocessor"),
        ("options", "config", "model", "decode_head", "loss_decode"),
    ],
    "images": [("options", "spec"), ("data", "test")],
    "faces": [("options", "spec"), ("data", "test"), ("options", "model")],
    "backdoor": [("options", "spec"), ("options", "trigger"), ("data", "test")],
}
SCRIPT = "import pathlib\npathlib.Path({canary!r}).touch()\nclass Class:\n    def __init__(self, **_): pass\n"


def hostile(record, place, kind, arguments):
    """The record with something at ``place`` of its measurement that names what would run."""
    measurement = record["measurement"] if isinstance(record["measurement"], dict) else {}
    parent = measurement
    for key in place[:-1]:
        parent = parent.setdefault(key, {}) if isinstance(parent, dict) else parent[key]
    architecture = f"{kind.rpartition('.')[0]}:{kind.rpartition('.')[2]}"
    by_spec = {"architecture": architecture, "arguments": arguments, "classes": ["a", "b"],
               "preprocessing": {"size": [16, 16], "mean": [0, 0, 0], "std": [1, 1, 1], "channels": "RGB", "input_range": [0,
               1]}}  # fmt: skip
    of_config = place[:2] == ("options", "config")
    parent[place[-1]] = {"type": kind, **arguments} if of_config else by_spec if place[-1] == "spec" else kind
    return {**record, "measurement": measurement}


def rerun_rows():
    modes = itertools.cycle(("digests agree", "digests differ", "key"))
    rows = [(t, p, k, next(modes)) for t in TASKS for p in PLACES[t] for k in RUNS]
    return rows + [
        (t, ("options", "config", "custom_imports"), "canary.Class", mode)
        for t in TASKS
        for mode in ("digests agree", "key")
    ]


@pytest.mark.parametrize(
    ("task", "place", "kind", "mode"),
    some(rerun_rows(), fast=6, only=lambda row: row[0] in ("segmentation", "images")),
)
def test_rerun_runs_nothing_that_a_record_names(server, here, kit, copy_of, task, place, kind, mode):
    folder = copy_of(task)
    canary, script = here.root / "canary", here.cwd / "canary.py"
    script.write_text(SCRIPT.format(canary=str(canary)))
    arguments = json.loads(json.dumps(RUNS[kind]).replace("{canary}", str(canary)).replace("{script}", str(script)))
    record = hostile(read_json(folder, "record.json"), place, kind, arguments)
    if place[-1] == "custom_imports":
        imports = {"imports": ["canary"], "allow_failed_imports": False}
        record["measurement"]["options"]["config"]["custom_imports"] = imports
    write(folder, record, mode != "digests differ")
    words = ["--key", kit.path("key.pub")] if mode == "key" else []
    path = {"PYTHONPATH": str(here.cwd)}
    before = "import sys; sys.path.insert(0, case['cwd'])"
    done = server.run(
        ["record", "verify", str(folder), "--rerun", "--name", "Bo", *words], here, before=before, env=path
    )
    assert not canary.exists(), f"it ran: {done}"
    no_traceback(done)
    if mode != "digests agree":
        assert done.code != 0 and "FAILED" in done.out, f"it passes: {done.out[-500:]} {done}"
