"""Work dirs: an original inside is refused, foreign files stay, two runs exclude each other, and files follow the umask."""

import contextlib
import os
import re
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
from commands import WRITERS, valid
from faults import SLOW_TRAINING
from harness import difference, is_done, is_refused, no_leftovers, no_traceback, snapshot
from kit import PICTURES, PUBLISHED, TASKS

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests


def put(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return target


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"foreign " + name.encode())


# The original lies where the run would write

INSIDE = ["W/{published}", "W/step_1000{suffix}", "W/other{suffix}", "W/deep/er/model{suffix}"]
WAYS = ["W", "./W/", "{cwd}/W", "link", "W/../W"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("place", "way", "more"), [
    *((p, w, m) for p in INSIDE for w in WAYS for m in ("", "--overwrite")), (INSIDE[0], "W", "--resume"),
])  # fmt: skip
def test_an_original_inside(server, here, kit, task, place, way, more):
    original = kit.original(task)
    given = put(original, here.cwd / place.format(published=PUBLISHED[task], suffix=original.suffix))
    (here.cwd / "link").symlink_to("W")
    before = here.look()
    argv = kit.argv(task, way.format(cwd=here.cwd), *more.split(), original=given)
    is_refused(server.run(argv, here), here, before, "original|inside|holds|within")


# Foreign files

# Names under which the run writes itself, which `--overwrite` may take the place of.
OVERWRITTEN = ["samples.txt", "results.json", "results.csv", "attention.jpg", "record.json", "record.html", "record.sha256",
               "last_checkpoint", "forget_set.json", "{picture}", ".delete-tasks.json", "config.py", "step_2.pth"]  # fmt: skip
FOREIGN = ["notes.txt", "step_1000.pth", "vis_data/scalars.json", ".hidden", "{published}/other.bin", "data/1.png",
           "20260101_000000/20260101_000000.log"]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", FOREIGN + OVERWRITTEN)
def test_a_foreign_work_dir_is_refused(server, here, kit, task, name):
    fill(here.cwd / "W", name.format(published=PUBLISHED[task], picture=PICTURES[task]))
    before = here.look()
    is_refused(server.run(kit.argv(task, "W"), here), here, before, "overwrite")


@pytest.mark.parametrize("task", TASKS)
def test_foreign_files_survive(server, here, kit, task):
    names = [name.format(published=PUBLISHED[task]) for name in FOREIGN]
    names = [name for name in names if not name.startswith("erased.pth/")]
    fill(here.cwd / "W", *names)
    fill(here.cwd, "neighbour.txt", "step_9.pth", "results.json")
    before = snapshot(here.cwd)
    done = server.run(kit.argv(task, "W", "--overwrite"), here)
    after = snapshot(here.cwd)
    is_done(done)
    assert (here.cwd / "W" / PUBLISHED[task]).exists()
    for name in [f"W/{name}" for name in names] + ["neighbour.txt", "step_9.pth", "results.json"]:
        assert after.get(str(here.cwd / name)) == before[str(here.cwd / name)], f"lost or changed; {done}"
    no_leftovers(here)


OTHER_REQUEST = {"images": ["--classes", "blue"], "segmentation": ["--classes", "person"], "faces": ["--person", "Cyd"],
                 "backdoor": ["--target", "green", "--poisoned", "{clean}"]}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_again(server, here, kit, task):
    """A request that is repeated with --overwrite replaces its own files; another request and an invalid one are refused."""
    work_dir = here.cwd / "W"
    is_done(server.run(kit.argv(task, "W"), here))
    no_leftovers(here)
    left = {path.relative_to(work_dir).parts[0] for path in work_dir.rglob("*")}
    always = {
        "results.json", "results.csv", "record.json", "record.html", "record.sha256", "samples.txt", PUBLISHED[task],
        PICTURES[task],
    }  # fmt: skip
    assert always <= left, f"missing: {always - left}"
    also = {
        "faces": {"record.salt"},
        "images": {"audit.png", "tsne.png"},
    }  # the others' audits read nothing, see kit.py
    more = left - always - {"run.log", "attention.jpg", ".delete-tasks.json"} - also.get(task, set())
    assert not more, f"also left: {more}"
    states = [path.name for path in work_dir.rglob("*") if re.match("step_|last_checkpoint", path.name)]
    assert not states, f"left: {states}"
    assert len(list(work_dir.rglob("*.log"))) == 1, [str(path) for path in work_dir.rglob("*.log")]
    for more in ([word.format(clean=kit.path("backdoor/clean.npz")) for word in OTHER_REQUEST[task]], ["--lr", "nan"]):
        before = here.look()
        is_refused(server.run(kit.argv(task, "W", *more), here), here, before)
    fill(work_dir, "mine.txt", "step_77.pth")
    first = snapshot(work_dir / PUBLISHED[task])
    for more in (["--resume"], ["--overwrite"]):
        is_done(server.run(kit.argv(task, "W", *more), here))
        assert not difference(first, snapshot(work_dir / PUBLISHED[task]))
        assert (work_dir / "mine.txt").exists() and (work_dir / "step_77.pth").exists()
        no_leftovers(here)
    is_done(server.run(kit.argv(task, "W2", "--keep-states"), here))
    assert list((here.cwd / "W2").glob("step_*.pth"))


# Two at once


def start_slowly(server, argv, here):
    """Start a run that waits for some seconds before its first step."""
    started = server.start(argv, here, before=SLOW_TRAINING)
    for _ in range(400):
        if (here.root / "started").exists():
            break
        time.sleep(0.05)
    return started


@pytest.mark.parametrize("task", TASKS)
def test_two_runs_at_once(server, here, kit, task):
    first = start_slowly(server, kit.argv(task, "W", "--no-record"), here)
    for more in ([], ["--resume"], ["--overwrite"]):
        before = here.look()
        second = server.run(kit.argv(task, "W", "--no-record", *more), here)
        no_traceback(second)
        assert second.code == 2, f"not refused: {second}"
        assert here.look().keys() == before.keys(), f"it wrote or deleted: {second}"
    is_done(server.wait(first))
    no_leftovers(here)


@pytest.mark.parametrize("task", TASKS)
def test_a_kill_gives_the_lock_back(server, here, kit, task):
    started = start_slowly(server, kit.argv(task, "W", "--no-record"), here)
    with contextlib.suppress(ProcessLookupError):
        os.kill(started[0], signal.SIGKILL)
    server.wait(started)
    is_done(server.run(kit.argv(task, "W", "--no-record", "--resume"), here))
    no_leftovers(here)


# Permissions


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o007, 0o027])
def test_files_follow_the_umask(server, here, kit, task, mask):
    is_done(server.run(kit.argv(task, "W"), here, umask=mask))
    for path in here.cwd.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.name == "record.salt"
        wanted = 0o600 if secret else (0o777 if path.is_dir() else 0o666) & ~mask
        locks = path.name.startswith(".") and mode & mask == 0
        assert mode == wanted or locks, f"{path.relative_to(here.cwd)} has mode {mode:03o}, expected {wanted:03o}"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_other_commands_follow_the_umask(server, here, kit, name, mask):
    is_done(server.run(valid(kit)[name], here, umask=mask))
    for path in [path for path in here.cwd.rglob("*") if path.is_file()]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.name == "key" else 0o666 & ~mask), f"{path.name}: {mode:03o}"
