"""Disks of N KB, disks that cannot be written, files where folders should be: one message with the path, nothing half written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import difference, is_done, is_refused, no_leftovers, no_traceback, snapshot, split
from kit import PICTURES, PUBLISHED, TASKS

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

SIZES = [
    4,
    8,
    16,
    32,
    64,
    128,
    256,
    512,
    1024,
    1536,
    2048,
    3072,
    4096,
    5120,
    6144,
    8192,
]  # KB; weights take 1 to 2 MB, a state thrice that


@contextlib.contextmanager
def disk(path: Path, options: str) -> Iterator[Path]:
    """A small file system at ``path``; skips the test where this user may not mount one."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk may be mounted here: {done.stderr.strip() or done.returncode}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def change_disk(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


def told(done, *words: str) -> None:
    """One message that names the place, no traceback, status 2."""
    no_traceback(done)
    assert done.code == 2, f"{done}"
    lines = [line for line in done.err.splitlines() if "error:" in line]
    assert len(lines) == 1, f"{len(lines)} messages: {done}"
    assert any(word in lines[0] for word in words), f"none of {words} in {lines[0]!r}"


def no_half_file(folder: Path) -> None:
    from test_kills import no_half_file as check

    class Here:
        cwd = folder

    check(Here)


@pytest.mark.parametrize(
    "rows", split([(t, s) for t in TASKS for s in SIZES], fast=4, only=lambda row: row[0] == "backdoor")
)
def test_a_full_disk(server, world, kit, cases, rows):
    """Refused or stopped with one message; with room again, the run is resumed and verifies."""
    for task, size in rows:
        here = world()
        with disk(here.cwd / "disk", f"size={size}k"):
            with cases(f"{task}: a disk of {size} KB"):
                done = server.run(kit.argv(task, "disk/W"), here)
                if done.code == 0:
                    assert size >= 2048, f"it fits in {size} KB?"
                else:
                    told(done, "disk/W", str(here.cwd / "disk"))
                    if "No space" in done.err:
                        assert "MiB" in done.err or "KiB" in done.err, f"the space needed is not said: {done}"
                no_leftovers(here)
                no_half_file(here.cwd)
            if done.code:
                change_disk(here.cwd / "disk", "size=64m")
                with cases(f"{task}: a disk of {size} KB, resumed with room"):
                    is_done(server.run(kit.argv(task, "disk/W", "--resume"), here))
                    no_leftovers(here)
                    is_done(server.run(["record", "verify", "disk/W"], here))


@pytest.mark.parametrize(
    "rows", split([(t, s) for t in ("images", "faces") for s in (4, 16, 64, 256, 1024, 2048)], fast=1)
)
def test_a_full_temporary_folder(server, world, kit, cases, rows):
    """Nothing is said, or one message."""
    for task, size in rows:
        here = world()
        with disk(here.tmp, f"size={size}k"), cases(f"{task}: a temporary folder of {size} KB"):
            done = server.run(kit.argv(task, "W"), here)
            no_traceback(done)
            assert done.code in (0, 2), f"{done}"
            no_leftovers(here)


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "backdoor" else pytest.mark.faults) for t in TASKS])
def test_a_disk_that_cannot_be_written(server, world, kit, cases, task):
    here = world()
    with disk(here.cwd / "disk", "size=64m") as place:
        change_disk(place, "ro")
        with cases(f"{task}: a read-only disk"):
            told(server.run(kit.argv(task, "disk/W"), here), "disk")
    here = world()
    with disk(here.cwd / "disk", "size=64m,nr_inodes=4"), cases(f"{task}: a disk without inodes"):
        told(server.run(kit.argv(task, "disk/W"), here), "disk")
        no_leftovers(here)
    here = world()
    with disk(here.cwd / "log", "size=64k") as place:
        with contextlib.suppress(OSError), open(place / "fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with cases(f"{task}: no room for the log"):
            done = server.run(kit.argv(task, "W", "--record-log", "log/records.jsonl"), here)
            is_done(done)  # a record is not lost for its log: its line is printed
            assert re.search(r"log of records, .*records.jsonl, could not be written.*record_sha256", done.said), (
                done.said[-500:]
            )
            is_done(server.run(["record", "verify", "W"], here))
            no_leftovers(here)


def occupied(task: str) -> list[str]:
    names = ["results.json", "record.json", "record.html", "record.sha256", "samples.txt", "run.log", "attention.jpg",
    PICTURES[task],
             ".delete-tasks.json", ".delete-tasks.lock", "last_checkpoint", "forget_set.json", PUBLISHED[task]]  # fmt: skip
    return (
        names
        if task == "segmentation"
        else [*names, f"{PUBLISHED[task]}/weights.safetensors", f"{PUBLISHED[task]}/model.json"]
    )


@pytest.mark.parametrize(
    "rows", split([(t, n) for t in TASKS for n in occupied(t)], fast=5, only=lambda row: row[0] == "backdoor")
)
def test_a_folder_in_a_files_place(server, world, kit, cases, rows):
    """With --overwrite: one message, the folder stays; a folder that the run wants as a folder is taken."""
    for task, name in rows:
        here = world()
        place = here.cwd / "W" / name
        place.mkdir(parents=True)
        (place / "mine.txt").write_text("mine")
        with cases(f"{task}: a folder at W/{name}"):
            done = server.run(kit.argv(task, "W", "--overwrite"), here)
            no_traceback(done)
            assert done.code in (0, 2), f"{done}"
            assert (place / "mine.txt").read_text() == "mine", "it was deleted"
            no_leftovers(here)
            if done.code == 2:
                told(done, name, "W")


FILES = {"W": "W", "W/deep": "W", "W/deep/er": "W", "/dev/null": None, "/dev/null/W": None, "/proc/W": None, "/sys/W": None,
"": None,
         "x" * 300: None, "a/" * 2100 + "W": None, "{cwd}/W/..//W": "W", "~nobody-of-that-name/W": None,
         "loop/W": "loop"}  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    split([(t, n) for t in TASKS for n in FILES], fast=13, only=lambda row: row[0] in ("backdoor", "segmentation")),
)
def test_no_place_for_a_work_dir(server, world, kit, cases, rows):
    for task, name in rows:
        here = world()
        if FILES[name] == "W":
            (here.cwd / "W").write_text("a file")
        elif FILES[name] == "loop":
            (here.cwd / "loop").symlink_to("loop")
        before = here.look()
        with cases(f"{task}: --work-dir {name[:40]!r} (a file, or no place)"):
            done = server.run(kit.argv(task, name.format(cwd=here.cwd)), here)
            if name.startswith("~") and done.code == 0:
                continue
            is_refused(done, here, before)


def others(kit, out: str) -> dict[str, list[str]]:
    """The other commands that write, each into ``out``."""
    model, data = kit.path("images/model"), kit.path("images/data.npz")
    return {
        "images train": ["images", "train", "--like", model, "--data", f"{data}?limit=16", "--epochs", "1", "--work-dir", out],
        "images import": ["images", "import", f"{model}/weights.safetensors", out, "--architecture", "cifar_resnet20",
        "--classes",
                          "red", "green", "blue", "grey", "--size", "16"],
        "images evaluate": ["images", "evaluate", model, "--test", data, "--out", f"{out}.json"],
        "backdoor poison": ["backdoor", "poison", "--data", data, "--trigger", "badnets", "--target", "red", "--out",
        f"{out}.npz"],
        "backdoor find": ["backdoor", "find", "--model", model, "--data", data, "--out", f"{out}.json"],
        "faces enroll": ["faces", "enroll", "--photos", kit.path("faces/photos"), "--aligned", "--backbone", "cifar_resnet20",
        "--out", out],
        "attention": ["attention", "--original", model, "--erased", model, "--class", "green", f"{data}?limit=8", "--limit", "1",
                      "--show", "1", "--out", f"{out}.png"],
        "record keygen": ["record", "keygen", out],
    }  # fmt: skip


OTHERS = [
    "images train",
    "images import",
    "images evaluate",
    "backdoor poison",
    "backdoor find",
    "faces enroll",
    "attention",
    "record keygen",
]


@pytest.mark.parametrize("rows", split([(n, s) for n in OTHERS for s in (0, 4, 32, 256, 1024)], fast=10))
def test_other_commands_on_a_full_disk(server, world, kit, cases, rows):
    for name, size in rows:
        here = world()
        with disk(here.cwd / "disk", f"size={max(size, 4)}k") as place:
            if size == 0:
                change_disk(place, "ro")
            with cases(f"{name} on a disk of {size} KB"):
                done = server.run(others(kit, "disk/out")[name], here)
                if done.code:
                    told(done, "disk")
                no_leftovers(here)
                no_half_file(here.cwd)


@pytest.mark.parametrize(
    "rows", split([(n, k) for n in OTHERS for k in ("folder", "parent a file", "too long", "/dev/full")], fast=12)
)
def test_other_commands_in_a_taken_place(server, world, kit, cases, rows):
    for name, kind in rows:
        here = world()
        out = {"folder": "out", "parent a file": "file/out", "too long": "x" * 280, "/dev/full": "/dev/full/out"}[kind]
        target = here.cwd / others(kit, out)[name][-1]
        argv = others(kit, out)[name]
        if kind == "folder":
            for suffix in ("", ".json", ".npz", ".png", ".pub"):
                (here.cwd / f"out{suffix}").mkdir()
                (here.cwd / f"out{suffix}" / "mine.txt").write_text("mine")
        (here.cwd / "file").write_text("a file")
        before = here.look()
        with cases(f"{name}, {kind} ({target.name[:20]})"):
            done = server.run(argv, here)
            after = here.look()
            no_traceback(done)
            assert all(
                after.get(path) == state for path, state in before.items() if "mine" in path or path.endswith("file")
            ), "changed"
            if done.code == 0:
                assert kind == "folder" and name in ("images import", "faces enroll"), f"{done}"
            else:
                told(done, "out", "x" * 20, "file", "/dev/full")
                assert not difference(before, after), difference(before, after)


def test_a_log_on_dev_full(server, world, kit, cases):
    """The record's log cannot take its line: noticed before the first step, or told in one message."""
    here = world()
    with cases("--record-log /dev/full"):
        done = server.run(kit.argv("backdoor", "W", "--record-log", "/dev/full"), here)
        told(done, "/dev/full")
        no_leftovers(here)
    assert os.strerror(errno.ENOSPC)


def test_folders_without_permission(server, world, kit, cases):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    here = world()
    (here.cwd / "locked").mkdir(mode=0o500)
    before = snapshot(here.cwd)
    with cases("a work dir in a folder without permission to write"):
        told(server.run(kit.argv("faces", "locked/W"), here), "locked")
        assert not difference(before, snapshot(here.cwd))
    (here.cwd / "secret").mkdir()
    (here.cwd / "secret/photo.png").write_bytes(Path(kit.path("faces/photos/test/Bo/Bo_25.png")).read_bytes())
    (here.cwd / "secret/photo.png").chmod(0)
    with cases("a photo without permission to read"):
        told(
            server.run(
                ["faces", "identify", "--model", kit.path("faces/model"), "--aligned", "secret/photo.png"], here
            ),
            "photo.png",
        )
