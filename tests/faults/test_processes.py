"""Runs in several processes: one message, one set of results, and no resume by another number of processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import PATHS, THREADS, is_done, no_leftovers, snapshot

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "delete_tasks"]


def environment(here) -> dict[str, str]:
    return {**os.environ, **THREADS, "TMPDIR": str(here.tmp), "PYTHONPATH": PATHS}


def torchrun(here, words) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LAUNCH, *words], cwd=here.cwd, env=environment(here), capture_output=True, text=True, timeout=280
    )


MISTAKES = {
    "an unknown class": ["--classes", "purple"], "no such data": ["--forget", "nowhere.npz"],
    "a rate of nan": ["--lr", "nan"], "a folder of others": ["--work-dir", "taken"], "no such option": ["--speed", "3"],
    "an original inside": [],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_once(here, kit, name):
    (here.cwd / "taken").mkdir()
    (here.cwd / "taken/notes.txt").write_text("mine")
    work_dir = kit.root / "images" if name == "an original inside" else "W"
    before = snapshot(here.cwd)
    done = torchrun(here, kit.argv("images", work_dir, "--no-record", *MISTAKES[name]))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "delete-tasks" in line and "error: " in line]
    assert len(told) == 1, f"{len(told)} messages: {told}"
    traces = [part.split("ChildFailed")[0] for part in done.stderr.split("Traceback (most recent call last)")[1:]]
    assert not any("/delete_tasks/" in part or "/plugins/" in part for part in traces), done.stderr[-1500:]
    assert snapshot(here.cwd) == before, "something was written"


def descendants(parent: int) -> list[int]:
    """List the children of a process and their children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found += [int(path.parent.name), *descendants(int(path.parent.name))]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "segmentation", "backdoor"])
def test_two_processes_write_one_set_of_results(server, here, kit, task):
    done = torchrun(here, kit.argv(task, "W", "--record-log", "records.jsonl"))
    assert done.returncode == 0, done.stderr[-1500:]
    assert len((here.cwd / "records.jsonl").read_text().splitlines()) == 1
    is_done(server.run(["record", "verify", "W"], here))
    no_leftovers(here)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "segmentation", "backdoor"])
def test_one_process_does_not_resume_a_run_of_two(server, here, kit, task):
    words = kit.argv(task, "W", "--no-record", "--steps", "400")
    process = subprocess.Popen([*LAUNCH, *words], cwd=here.cwd, env=environment(here),
                               start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None and not (here.cwd / "W/last_checkpoint").exists():
        time.sleep(0.05)
    workers = descendants(process.pid)  # they have sessions of their own
    for one in [process.pid, *workers]:
        os.kill(one, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{one}").exists() for one in workers):
        time.sleep(0.05)
    before = sorted(path.name for path in (here.cwd / "W").glob("step_*"))
    assert before, "no state was saved"
    done = server.run([*words, "--resume"], here)
    assert done.code == 2 and re.search("process|world", done.err), f"{done}"
    assert sorted(path.name for path in (here.cwd / "W").glob("step_*")) == before


def test_runs_beside_each_other(server, here, kit):
    """Runs with separate work dirs add a line each to one log."""
    started = [
        server.start(kit.argv("faces", f"W{number}", "--seed", number, "--record-log", "records.jsonl"), here)
        for number in range(3)
    ]
    for one in started:
        is_done(server.wait(one))
    lines = [json.loads(line) for line in (here.cwd / "records.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and len({line["id"] for line in lines}) == 3
    for number in range(3):
        is_done(server.run(["record", "verify", f"W{number}"], here))
        no_leftovers(here)
