"""Closed and full outputs, readers that are gone, and signals: the work and its record are finished or can be
continued. A run prints two lines, the table, written files and next steps; its log goes to a file, or with --verbose here."""

import itertools
import re
import signal

import pytest
from commands import valid
from harness import is_done, long, no_traceback, some
from helpers import read_json
from kit import TASKS, Kit

# What becomes of the standard streams, and whether output is read at all.
STREAMS = {
    "out closed": "os.close(1); sys.stdout = None",
    "err closed": "os.close(2); sys.stderr = None",
    "in closed": "os.close(0); sys.stdin = None",
    "all closed": "os.closerange(0, 3); sys.stdin = sys.stdout = sys.stderr = None",
    "no reader": "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.close(w)",
    "no reader of both": "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2); os.close(w)",
    "full": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
}


@pytest.mark.parametrize(
    ("task", "kind"), some(itertools.product(TASKS, STREAMS), fast=2, only=lambda row: row == ("images", "no reader"))
)
def test_a_run_and_its_record_are_finished(server, here, kit, task, kind):
    done = server.run(kit.argv(task, "W", "--audit", "none"), here, before=f"import os, sys; {STREAMS[kind]}")
    no_traceback(done)
    assert done.code == (2 if kind == "full" else 0), f"{done}"
    is_done(server.run(["record", "verify", "W"], here))


@pytest.mark.parametrize("kind", some(STREAMS, fast=0))
def test_commands(server, world, kit, copy_of, kind):
    """They end with the status that they have otherwise, and write the same files."""
    for name, words in valid(kit).items():
        whole, here = world(), world()
        one = server.run(words, whole)
        two = server.run(words, here, before=f"import os, sys; {STREAMS[kind]}")
        no_traceback(two)
        full = kind == "full" and one.code == 0 and one.out
        assert two.code == (2 if full else one.code), f"{name}: {two}, not {one.code}"
        files = [sorted(path.relative_to(each.cwd) for path in each.cwd.rglob("*")) for each in (whole, here)]
        assert files[0] == files[1], f"{name}: other files"


SENT = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
AT_STEP = """
import os, signal, time
from delete_tasks.runner.hooks import StateHook
signal.signal(signal.SIGHUP, signal.SIG_IGN if case["ignored"] else signal.SIG_DFL)
after = StateHook.after_train_iter
def sent(self, runner, batch_idx, *rest, **more):
    if (batch_idx + 1) % runner.accumulation == 0 and self.stopped_by is None:
        time.sleep(case["seconds"])
        os.kill(os.getpid(), case["number"])
    after(self, runner, batch_idx, *rest, **more)
StateHook.after_train_iter = sent
"""


@pytest.mark.parametrize("task", long("images"))
@pytest.mark.parametrize("name", some(SENT, fast=1, only=lambda name: name == "SIGTERM"))
def test_signals(server, here, kit, task, name):
    """The state is saved, the message says how to continue, the status is the shell's, and seconds add up."""
    words = kit.argv(task, "W", "--audit", "none", "--no-record")
    options = {"before": AT_STEP, "number": int(signal.Signals[name]), "seconds": 0.7, "ignored": False}
    done = server.run(words, here, **options)
    no_traceback(done)
    assert done.code == SENT[name] and done.err.count("delete-tasks: ") == 1, f"{done}"
    assert re.search(
        r"Step 1 of \d+ is saved in .*W; continue with the same command and --resume", " ".join(done.err.split())
    ), f"{done}"
    is_done(server.run([*words, "--resume"], here))
    assert read_json(here.cwd, "W/results.json")["seconds"]["unlearning"] >= 0.7


@pytest.mark.parametrize("task", long())
def test_a_signal_that_is_ignored(server, here, kit, task):
    """As under nohup."""
    options = {"before": AT_STEP, "number": int(signal.SIGHUP), "seconds": 0, "ignored": True}
    is_done(server.run(kit.argv(task, "W", "--audit", "none"), here, **options))


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
