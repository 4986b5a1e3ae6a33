"""Output of a run: two lines, the table, written files and next steps; the log goes to a file, with --verbose to the terminal."""

import pytest
from harness import is_done, long
from kit import Kit

LOG = "- INFO -"


def words(kit: Kit, task: str) -> list[str]:
    """Return the words of a run with the default log level."""
    return [word for word in kit.argv(task, "W") if word != "log_level=WARNING"]


@pytest.mark.parametrize("task", long("images"))
def test_a_run_is_quiet(server, here, kit, task):
    done = server.run(words(kit, task), here)
    is_done(done)
    lines = done.out.splitlines()
    assert done.err == "", done.err
    assert all(line.strip() for line in lines) and len(lines) < 60, done.out
    assert LOG not in done.out and any("W/results.json" in line for line in lines)
    following = lines.index("Next: delete-tasks record verify W")
    assert "original" in " ".join(lines[following + 1 :])
    assert (here.cwd / "W/run.log").is_file()


def test_a_verbose_run_prints_the_log(server, here, kit):
    done = server.run([*words(kit, "images"), "--verbose", "--no-record"], here)
    is_done(done)
    log = (here.cwd / "W/run.log").read_text()
    for said in (LOG, "System environment", "loss_unlearn", "The erased model is"):
        assert said in done.out and said in log
