"""Records with changed fields: verify reports FAILED with the field, and never raises."""

import itertools

import pytest
from harness import long
from helpers import read_json
from kit import TASKS
from mutate import VALUES, changed, get, paths

BATCH = "import mutate; mutate.verify_all(case['folder'], case['changes'], case['found'], case['words'])"


def verify(server, here, folder, changes, words=()):
    """Return (status or 'traceback', output) of verify after each change."""
    found = here.root / "found.json"
    request = {"folder": str(folder), "changes": changes, "found": str(found), "words": list(words)}
    done = server.run([], here, code=BATCH, timeout=1500, **request)
    assert done.code == 0, f"the batch failed: {done}"
    return read_json(found)


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
            if changed(record, path, value) != record:
                yield path, kind, value


@pytest.mark.parametrize("task", long("images"))
def test_every_field(server, here, copy_of, task):
    folder = copy_of(task)
    rows = list(table(read_json(folder, "record.json"), TASKS.index(task)))[:: 1 if task == "faces" else 3]
    answers = verify(server, here, folder, [[path, value, False] for path, _, value in rows])
    wrong = [judge(path, kind, answer) for (path, kind, _), answer in zip(rows, answers, strict=True)]
    assert len(rows) > 250 and not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("task", long("images"))
@pytest.mark.parametrize("measured", [False, True])
def test_every_field_with_digests_that_agree(server, here, copy_of, task, measured):
    """A value that fits the schema and the other files may pass; none raises, not even with --rerun."""
    folder = copy_of(task)
    rows = [
        row for row in table(read_json(folder, "record.json"), 5) if (row[0][0] in ("measurement", "task")) == measured
    ][::6]
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
    nullable = {"measured_on", "measurement", "results", "picture_note", "forget_check", "audit"}
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
