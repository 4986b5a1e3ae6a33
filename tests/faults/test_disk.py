"""Full and read-only disks, and files in place of folders: one message with the path, no incomplete file."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import WRITERS, writing, written
from harness import difference, is_done, is_refused, no_half_file, no_leftovers, no_traceback, snapshot
from kit import TASKS

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

# KB; weights take 1 to 2 MB, a state thrice that.
SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 5120, 6144, 8192)


@contextlib.contextmanager
def disk(path: Path, options: str) -> Iterator[Path]:
    """Mount a small file system at ``path``; skip the test if this user may not."""
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
    """Check for status 2 and one message with one of ``words``, without traceback."""
    no_traceback(done)
    assert done.code == 2, f"{done}"
    lines = [line for line in done.err.splitlines() if "error:" in line]
    assert len(lines) == 1, f"{len(lines)} messages: {done}"
    assert any(word in lines[0] for word in words), f"none of {words} in {lines[0]!r}"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk(server, here, kit, task, size):
    """Refused or stopped with one message; with room again, the run is resumed and verifies."""
    with disk(here.cwd / "disk", f"size={size}k"):
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
            is_done(server.run(kit.argv(task, "disk/W", "--resume"), here))
            no_leftovers(here)
            is_done(server.run(["record", "verify", "disk/W"], here))


@pytest.mark.parametrize("task", ["images", "faces"])
@pytest.mark.parametrize("size", [4, 16, 64, 256, 1024, 2048])
def test_a_full_temporary_folder(server, here, kit, task, size):
    """The run succeeds or ends with one message."""
    with disk(here.tmp, f"size={size}k"):
        done = server.run(kit.argv(task, "W"), here)
        no_traceback(done)
        assert done.code in (0, 2), f"{done}"
        no_leftovers(here)


@pytest.mark.parametrize("task", TASKS)
def test_a_disk_that_cannot_be_written(server, world, kit, task):
    here = world()
    with disk(here.cwd / "disk", "size=64m") as place:
        change_disk(place, "ro")
        told(server.run(kit.argv(task, "disk/W"), here), "disk")
    here = world()
    with disk(here.cwd / "disk", "size=64m,nr_inodes=4"):
        told(server.run(kit.argv(task, "disk/W"), here), "disk")
        no_leftovers(here)
    here = world()
    with disk(here.cwd / "log", "size=64k") as place:
        with contextlib.suppress(OSError), open(place / "fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        done = server.run(kit.argv(task, "W", "--record-log", "log/records.jsonl"), here)
        is_done(done)  # a record is not lost for its log: its line is printed
        assert "record_sha256" in done.output, done.output[-500:]
        is_done(server.run(["record", "verify", "W"], here))
        no_leftovers(here)


@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS for n in written(t)])
def test_a_folder_in_a_files_place(server, here, kit, task, name):
    """With --overwrite the folder stays: there is one message, or the run writes into the folder."""
    place = here.cwd / "W" / name
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    done = server.run(kit.argv(task, "W", "--overwrite"), here)
    no_traceback(done)
    assert done.code in (0, 2), f"{done}"
    assert (place / "mine.txt").read_text() == "mine", "it was deleted"
    no_leftovers(here)
    if done.code == 2:
        told(done, name, "W")


FILES = {"W": "W", "W/deep": "W", "W/deep/er": "W", "/dev/null": None, "/dev/null/W": None, "/proc/W": None,
         "/sys/W": None, "": None, "x" * 300: None, "a/" * 2100 + "W": None, "{cwd}/W/..//W": "W",
         "~nobody-of-that-name/W": None, "loop/W": "loop"}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", FILES)
def test_no_place_for_a_work_dir(server, here, kit, task, name):
    if FILES[name] == "W":
        (here.cwd / "W").write_text("a file")
    elif FILES[name] == "loop":
        (here.cwd / "loop").symlink_to("loop")
    before = here.look()
    done = server.run(kit.argv(task, name.format(cwd=here.cwd)), here)
    if done.code or not name.startswith("~"):
        is_refused(done, here, before)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [0, 4, 32, 256, 1024])
def test_other_commands_on_a_full_disk(server, here, kit, name, size):
    with disk(here.cwd / "disk", f"size={max(size, 4)}k") as place:
        if size == 0:
            change_disk(place, "ro")
        done = server.run(writing(kit, name, "disk"), here)
        if done.code:
            told(done, "disk")
        no_leftovers(here)
        no_half_file(here.cwd)


PLACES = {"a folder": "out", "below a file": "file", "too long": "x" * 280, "/dev/full": "/dev/full"}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", PLACES)
def test_other_commands_in_a_taken_place(server, here, kit, name, kind):
    words = writing(kit, name, PLACES[kind])
    (here.cwd / "file").write_text("mine")
    if kind == "a folder":
        target = here.cwd / next(word for word in words if word.startswith("out/"))
        target.mkdir(parents=True)
        (target / "mine.txt").write_text("mine")
    before = here.look()
    done = server.run(words, here)
    no_traceback(done)
    if done.code:
        told(done, PLACES[kind][:20])
        assert not difference(before, here.look()), difference(before, here.look())
    else:
        assert kind == "a folder" and name in ("images import", "faces enroll"), f"{done}"
        assert (target / "mine.txt").read_text() == "mine"


def test_a_log_on_dev_full(server, here, kit):
    """A log that cannot be written gives one message."""
    done = server.run(kit.argv("backdoor", "W", "--record-log", "/dev/full"), here)
    told(done, "/dev/full")
    no_leftovers(here)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(server, here, kit):
    (here.cwd / "locked").mkdir(mode=0o500)
    before = snapshot(here.cwd)
    told(server.run(kit.argv("faces", "locked/W"), here), "locked")
    assert not difference(before, snapshot(here.cwd))
    (here.cwd / "photo.png").write_bytes(Path(kit.path("faces/photos/test/Bo/Bo_25.png")).read_bytes())
    (here.cwd / "photo.png").chmod(0)
    words = ["faces", "identify", "--model", kit.path("faces/model"), "--aligned", "photo.png"]
    told(server.run(words, here), "photo.png")
