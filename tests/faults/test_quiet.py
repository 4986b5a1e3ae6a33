"""What a run prints: two lines, the table, what was written, what to do next; the log is a file, unless it is asked for."""

from __future__ import annotations

import pytest
from harness import is_done
from kit import TASKS, Kit

LOG = "- INFO -"


def words(kit: Kit, task: str) -> list[str]:
    """A run whose config leaves the log at its default level."""
    return [word for word in kit.argv(task, "W") if word != "log_level=WARNING"]


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "images" else pytest.mark.faults) for t in TASKS])
def test_a_run_is_quiet(server, here, kit, task):
    done = server.run(words(kit, task), here)
    is_done(done)
    lines = done.out.splitlines()
    assert done.err == "", done.err
    assert lines[0].startswith("Makes ") and " forget " in lines[0] and lines[1].startswith("Reads ")
    assert not any(not line.strip() for line in lines) and len(lines) < 45, done.out
    assert LOG not in done.out and any(line.startswith("Written: ") for line in lines)
    assert lines[-2].startswith("Next: delete-tasks record verify W") and lines[-1].startswith("Delete the original")
    assert (here.cwd / "W/run.log").is_file()


def test_a_run_may_tell_all(server, here, kit):
    done = server.run([*words(kit, "images"), "--verbose", "--no-record"], here)
    is_done(done)
    log = (here.cwd / "W/run.log").read_text()
    for said in (LOG, "System environment", "loss_unlearn", "The erased model is"):
        assert said in done.out and said in log
