"""Whatever is done to a record's files, verify says FAILED and what, or NOT CHECKED and why; never OK, never a traceback."""

from __future__ import annotations

import copy as copying
import json
import shutil
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delete_tasks.display.terminal import from_line, one_line, printable
from delete_tasks.errors import RequestError
from delete_tasks.fileio.digests import canonical
from delete_tasks.report.record.samples import SampleList, write_samples
from delete_tasks.report.record.verify import FAILED, NOT_CHECKED, OK, verify

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    0.5,
    "",
    "\udcff\0",
    "/dev/zero",
    [],
    [1],
    {},
    {"$place": 3},
    "x" * 5000,
)


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and place in a JSON value; of a list the first alone."""
    found = [before] if before else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        found += paths_in(item, (*before, key))
    return found


def fields(record: dict) -> list[tuple[Any, ...]]:
    """Those that the schema knows, and a few of the others."""
    free = ("results", "environment", "code", "section_sha256", "measurement")
    return [path for path in paths_in(record) if len(path) < (3 if path[0] in free else 6)]


def changed(record: dict, path: tuple[Any, ...], value: Any) -> dict:
    record = copying.deepcopy(record)
    *above, last = path
    place: Any = record
    for key in above:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return record


@pytest.mark.parametrize("all_values", [False, pytest.param(True, marks=pytest.mark.long)])
def test_every_field_changed_is_failed_by_its_name(copy, all_values):
    record = json.loads((copy / "record.json").read_text())
    tried = 0
    for number, path in enumerate(fields(record)):
        second = [VALUES[-number % len(VALUES)]] if all_values else []
        for value in (VALUES[number % len(VALUES)], *second, KeyError):
            mutant = changed(record, path, value)
            if mutant == record:
                continue
            (copy / "record.json").write_text(json.dumps(mutant, indent=2) + "\n")
            failed = [check for check in verify(copy) if check.status == FAILED]
            told = [f"{check.what} {check.why}" for check in failed]
            part = path[-1] if len(path) == 2 and path[0] == "section_sha256" else path[0]
            assert any(part in text for text in told) or path == ("section_sha256",), (path, value, failed)
            if failed[0].what == "record.json: schema":
                name = next(part for part in reversed(path) if isinstance(part, str))  # of an entry, its list
                assert any(name in text for text in told), (path, value, failed)
            assert any(check.what == "record.json" for check in failed)
            tried += 1
    assert tried > (400 if all_values else 250)


@pytest.mark.parametrize(("step", "first"), [(5, 3), pytest.param(1, 0, marks=pytest.mark.long)])
def test_every_field_changed_with_digests_made_anew(copy, write_anew, step, first):
    """What the schema or another file does not tell from the true value may pass; nothing raises, with --rerun either."""
    record = json.loads((copy / "record.json").read_text())
    for number, path in enumerate(fields(record)):
        value = VALUES[(step * number + first) % len(VALUES)]
        mutant = changed(record, path, value)
        if mutant == record:
            continue
        write_anew(copy, mutant)
        checks = verify(copy, rerun=path[0] in ("measurement", "task"))
        assert checks[0].status == OK or path[0] in checks[0].why, (path, value, checks[0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_of_any_file_changed(copy, data):
    """Flipped, cut off, put in: always FAILED, or refused as another version's."""
    name = data.draw(st.sampled_from(["record.json", "record.sha256", "samples.txt", "record.html"]))
    path = copy / name
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.binary(max_size=4))
    taken = data.draw(st.integers(0, 300))
    changed = good[:place] + piece + good[place + taken :]
    if changed == good:
        return
    path.write_bytes(changed)
    try:
        assert any(check.status == FAILED for check in verify(copy))
    except RequestError as error:
        assert "has schema version" in str(error)
    finally:
        path.write_bytes(good)


SUMS = {
    "empty": (lambda lines: [], "it is empty"),
    "a line taken out": (lambda lines: lines[:2], "it does not list samples.txt"),
    "a line doubled": (lambda lines: [*lines, lines[0]], "it lists record.json twice"),
    "no digest": (lambda lines: ["x" * 64 + lines[0][64:], *lines[1:]], "cannot read the line"),
    "somewhere else": (lambda lines: [*lines, lines[0] + "/../x"], "cannot read the line"),
    "no line": (lambda lines: [*lines, ""], "cannot read the line"),
}


@pytest.mark.parametrize("what", SUMS)
def test_the_digests(what, copy):
    change, why = SUMS[what]
    lines = (copy / "record.sha256").read_text().splitlines()
    (copy / "record.sha256").write_text("".join(f"{line}\n" for line in change(lines)))
    (found,) = [check.why for check in verify(copy) if check.status == FAILED and check.what == "record.sha256"]
    assert why in found
    (copy / "record.sha256").write_text("\n".join(lines))
    assert "not whole" in next(check.why for check in verify(copy) if check.status == FAILED)
    (copy / "record.sha256").unlink()
    assert "belongs to the record" in next(check.why for check in verify(copy) if check.status == FAILED)


@given(st.text(alphabet=st.characters()), st.text())
def test_names_on_one_line(name, other):
    """Also with halves of characters, as names of files that are not UTF-8 have."""
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
    assert (
        (tmp_path / "samples.txt").read_bytes().count(b"\n")
        == 10
        == len((tmp_path / "samples.txt").read_text().splitlines())
    )
    assert salt is not None or "forget set\tplain/é.png" in (tmp_path / "samples.txt").read_text()
    listed = SampleList(tmp_path / "samples.txt", salt)
    assert listed.places("forget set", names[::-1]) == list(range(7, -1, -1)) and listed.places(
        "clean\nsamples", names
    ) == [0, 1]
    with pytest.raises(RequestError, match="1 of 8 samples"):
        listed.places("forget set", names[1:])
    with pytest.raises(RequestError, match="two samples with the name"):
        listed.places("forget set", [*names, names[0]])


def test_a_run_on_files_with_line_breaks_in_their_names(colours, forget, tmp_path):
    import numpy as np
    from PIL import Image

    with np.load(colours / "data.npz") as data:
        for number, (image, label) in enumerate(zip(data["x_train"][::3], data["y_train"][::3], strict=True)):
            folder = tmp_path / "photos" / ("red", "green", "blue")[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}\n\u2028\x0c.png")
    run = forget(tmp_path / "run", "--forget", str(tmp_path / "photos"))
    checks = verify(run, rerun=True)
    assert not [check for check in checks if check.status == FAILED]
    assert next(check for check in checks if check.what == "figure forget_acc_train").status == OK
    shutil.rmtree(tmp_path / "photos")
    gone = {check.what: check for check in verify(run, rerun=True)}
    assert gone["figure forget_acc_train"].status == NOT_CHECKED and "photos" in gone["figure forget_acc_train"].why
    assert gone["figure forget_acc"].status == OK  # one that cannot be measured hides no other
