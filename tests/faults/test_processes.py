"""Several processes: torchrun tells one message, a loss that is no number ends all, another number of processes cannot resume."""

from __future__ import annotations

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
from kit import PUBLISHED, TASKS

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

LONG = [pytest.mark.faults, pytest.mark.slow]


def torchrun(
    here, words, count: int = 2, script: str | None = None, timeout: float = 280
) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"]
    target = [script] if script else ["-m", "delete_tasks"]
    environment = {**os.environ, **THREADS, "TMPDIR": str(here.tmp), "PYTHONPATH": PATHS}
    return subprocess.run(
        [*launcher, *target, *words], cwd=here.cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


MISTAKES = {
    "an unknown class": ["--classes", "purple"],
    "no such data": ["--forget", "nowhere.npz"],
    "a rate of nan": ["--lr", "nan"],
    "a folder of others": ["--work-dir", "taken"],
    "no such option": ["--speed", "3"],
    "an original inside": [],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "an unknown class" else LONG) for n in MISTAKES])
def test_a_mistake_is_told_once(here, kit, name):
    (here.cwd / "taken").mkdir()
    (here.cwd / "taken/notes.txt").write_text("mine")
    work_dir = kit.root / "images" if name == "an original inside" else "W"
    before = snapshot(here.cwd)
    done = torchrun(here, kit.argv("images", work_dir, "--no-record", *MISTAKES[name]))
    assert done.returncode != 0
    told = re.findall(r"^.*error: .*$", done.stderr, re.M)
    told = [line for line in told if "delete-tasks" in line]
    assert len(told) == 1, f"{len(told)} messages: {told}"
    traces = [
        part
        for part in done.stderr.split("Traceback (most recent call last)")[1:]
        if "delete_tasks" in part.split("ChildFailed")[0]
    ]
    assert not any("/delete_tasks/" in part or "/plugins/" in part for part in traces), (
        f"a traceback: {done.stderr[-1500:]}"
    )
    assert snapshot(here.cwd) == before, "something was written"


SCRIPT = """
import os, sys, torch
import delete_tasks.hooks.unlearn as unlearn
if os.environ["RANK"] == "1":
    plain = unlearn.UnlearnHook._loss
    def broken(self, *args, **kwargs):
        found = plain(self, *args, **kwargs)
        return {k: v * float("nan") if torch.is_tensor(v) and v.requires_grad else v for k, v in found.items()}
    unlearn.UnlearnHook._loss = broken
from delete_tasks.cli import main
sys.exit(main())
"""


@pytest.mark.faults
@pytest.mark.slow
def test_a_loss_that_is_no_number_on_one_rank(here, kit):
    script = here.root / "broken.py"
    script.write_text(SCRIPT)
    begin = time.monotonic()
    done = torchrun(here, kit.argv("images", "W", "--no-record"), script=str(script))
    assert done.returncode != 0, "it went on"
    assert time.monotonic() - begin < 200
    assert "finite" in done.stderr.lower() or "nan" in done.stderr.lower(), done.stderr[-800:]
    assert not (here.cwd / "W/erased/model.json").exists()


def descendants(parent: int) -> list[int]:
    """Children of a process and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found += [int(path.parent.name), *descendants(int(path.parent.name))]
    return found


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "segmentation", "backdoor"])
def test_two_processes(server, world, kit, task):
    here = world()
    done = torchrun(here, kit.argv(task, "W", "--record-log", "records.jsonl"))
    assert done.returncode == 0, done.stderr[-1500:]
    assert len((here.cwd / "records.jsonl").read_text().splitlines()) == 1
    is_done(server.run(["record", "verify", "W"], here))
    no_leftovers(here)
    here = world()
    environment = {**os.environ, **THREADS, "TMPDIR": str(here.tmp)}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "delete_tasks",
    ]
    process = subprocess.Popen([*launcher, *kit.argv(task, "W", "--no-record", "--steps", "400")], cwd=here.cwd,
    env=environment, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
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
    done = server.run(kit.argv(task, "W", "--no-record", "--steps", "400", "--resume"), here)
    assert done.code == 2 and re.search("process|world", done.err), f"{done}"
    assert sorted(path.name for path in (here.cwd / "W").glob("step_*")) == before


FRESH = {
    "a face model loads by load_model alone": "from delete_images.model_file import load_model\nload_model({faces!r})\n",
    "the base needs no extra": "import sys, delete_tasks\nassert not {{'mmengine', 'mmseg', 'cv2'}} & sys.modules.keys()\n",
}


@pytest.mark.parametrize("name", FRESH)
def test_in_a_fresh_process(kit, name):
    code = FRESH[name].format(faces=kit.path("faces/model"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, env={**os.environ, **THREADS}
    )
    assert done.returncode == 0, done.stderr[-1500:]


def test_runs_beside_each_other(server, here, kit):
    """Different work dirs, one log: a line for each."""
    started = [
        server.start(kit.argv("faces", f"W{number}", "--seed", number, "--record-log", "records.jsonl"), here)
        for number in range(3)
    ]
    for number, one in enumerate(started):
        is_done(server.wait(one))
    lines = [json.loads(line) for line in (here.cwd / "records.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and len({line["id"] for line in lines}) == 3
    for number in range(3):
        is_done(server.run(["record", "verify", f"W{number}"], here))
        no_leftovers(here)
    assert set(PUBLISHED) == set(TASKS)
