"""Changes of records: fields, records with one field changed, and digests that agree with them."""

import contextlib
import copy
import io
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GONE = "<the field is taken out>"
VALUES: dict[str, Any] = {
    "gone": GONE, "null": None, "number": 7, "negative": -1, "huge": 10**400, "fraction": 0.5, "text": "other", "empty text": "",
    "list": [], "object": {}, "true": True, "nested": [{"a": [None, {"b": 1}]}], "zeros": "0" * 64, "surrogate": "\ud800",
    "path": "../../../../etc/passwd", "a device": "/dev/zero", "nul": "a\x00b", "long": "x" * 70000, "a place": {"$place": 3},
}  # fmt: skip


def paths(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every field of a JSON value, including objects, lists and their first two items."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:2]):
            yield from paths(item, (*at, number))


def get(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(value: Any, path: tuple, new: Any) -> Any:
    """Return a value with one field set or removed; only what holds the field is copied."""
    whole = copy.copy(value)
    if len(path) > 1:
        whole[path[0]] = changed(value[path[0]], path[1:], new)
    elif new == GONE:
        del whole[path[0]]
    else:
        whole[path[0]] = new
    return whole


def write(folder: Path, record: Any, consistent: bool) -> None:
    """Write record.json; with ``consistent`` compute all unsigned digests again, as a forger would."""
    if consistent:
        from delete_tasks.fileio.digests import section_digests, write_sums

        with contextlib.suppress(Exception):
            record = {**record, "section_sha256": section_digests(record)}
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    if consistent:
        write_sums(folder, ["record.json", "record.html", "samples.txt"])


def verify(server: Any, here: Any, folder: Any, changes: list[Any], words: Any = (), timeout: float = 1500) -> Any:
    """Return (status or 'traceback', output) of ``record verify`` after each change, in one child."""
    found = here.root / "found.json"
    request = {"folder": str(folder), "changes": changes, "found": str(found), "words": list(words)}
    code = "import mutate; mutate.verify_all(case['folder'], case['changes'], case['found'], case['words'])"
    done = server.run([], here, code=code, timeout=timeout, **request)
    assert done.code == 0, f"the batch failed: {done}"
    return json.loads(found.read_text())


def verify_all(folder: str, changes: list[list[Any]], out: str, words: list[str]) -> None:
    """Verify the record in ``folder`` after each of ``changes`` (path, value, consistent), and write the results to ``out``."""
    from delete_tasks.cli import main

    place = Path(folder)
    written = (place / "record.json", place / "record.sha256")
    kept = {path: path.read_bytes() for path in written}
    record = json.loads((place / "record.json").read_text())
    found = []
    for path, value, consistent in changes:
        write(place, changed(record, tuple(path), value), consistent)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = main(["record", "verify", folder, *words])
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                code = "traceback"
                said.write(traceback.format_exc()[-700:])
        found.append([code, said.getvalue()])
        for name, content in kept.items():
            name.write_bytes(content)
    Path(out).write_text(json.dumps(found))
    sys.stdout.flush()
