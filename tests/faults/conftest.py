"""Hostile cases: what has no marker runs with all tests, the whole with ``make test-faults``; counts by group come at the end."""

from __future__ import annotations

import fcntl
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Recorder, World, difference, is_done, snapshot
from kit import Kit, build


@pytest.fixture(scope="session")
def kit(tmp_path_factory) -> Iterator[Kit]:
    """Small trained models and data of all four tasks; nobody may change them. Made once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with open(base / "kit.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Kit(base / "kit")
        if not Path(made.path("key.pub")).exists():
            build(made.root)
    before = snapshot(made.root)
    yield made
    changed = difference(before, snapshot(made.root))
    assert not changed, f"a command changed its input: {changed}"


@pytest.fixture(scope="session")
def recorded(server, kit, tmp_path_factory):
    """``recorded(task)``: the work dir W of a finished, signed run; copy it before a change."""
    found: dict[str, Path] = {}

    def get(task: str) -> Path:
        if task not in found:
            here = World(tmp_path_factory.mktemp(f"recorded_{task}") / "world0")
            is_done(server.run(kit.argv(task, "W", "--sign", kit.path("key"), "--reference", "R-1"), here))
            found[task] = here.cwd / "W"
        return found[task]

    return get


@pytest.fixture
def world(tmp_path):
    """``world()``: a new empty world."""
    made = []

    def make() -> World:
        made.append(World(tmp_path / f"world{len(made)}"))
        return made[-1]

    return make


@pytest.fixture
def cases(request) -> Recorder:
    """Counts cases under the group that the file's name says."""
    recorder = Recorder(request.path.stem.removeprefix("test_"))
    request.node.stash[_RECORDER] = recorder
    return recorder


_RECORDER = pytest.StashKey[Recorder]()
_COUNTS: Counter[tuple[str, bool]] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    try:
        return (yield)
    finally:
        recorder = pyfuncitem.stash.get(_RECORDER, None)
        if recorder is not None:
            counted = [[group, right, number] for (group, right), number in recorder.counts.items()]
            pyfuncitem.user_properties.append(("faults", counted))
            if recorder.wrong and sys.exc_info()[0] is None:
                shown = "\n".join(recorder.wrong[:40])
                pytest.fail(
                    f"{len(recorder.wrong)} of {recorder.counts.total()} cases are wrong:\n{shown}", pytrace=False
                )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        for name, counted in report.user_properties:
            if name == "faults":
                for group, right, number in counted:
                    _COUNTS[group, right] += number


def pytest_terminal_summary(terminalreporter) -> None:
    groups = sorted({group for group, _ in _COUNTS})
    if not groups:
        return
    terminalreporter.section("hostile cases")
    rows = [(group, _COUNTS[group, True], _COUNTS[group, False]) for group in groups]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    terminalreporter.write_line(f"{'group':<18}{'tried':>7}{'right':>7}{'wrong':>7}")
    for group, right, wrong in rows:
        terminalreporter.write_line(f"{group:<18}{right + wrong:>7}{right:>7}{wrong:>7}")
