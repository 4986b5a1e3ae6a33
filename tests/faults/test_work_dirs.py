"""Work dirs: an original inside is refused, foreign files survive, two runs do not meet, and files follow the umask."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
from faults import SLOW_TRAINING
from harness import difference, is_done, is_refused, no_leftovers, no_traceback, snapshot, some
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
        path.mkdir() if name.endswith("/") else path.write_bytes(b"somebody's " + name.encode())


# The original lies where the run would write

INSIDE = ["W/{published}", "W/step_1000{suffix}", "W/other{suffix}", "W/deep/er/model{suffix}"]
WAYS = ["W", "./W/", "{cwd}/W", "link", "W/../W"]


def inside_rows():
    rows = [
        (task, place, way, more) for task in TASKS for place in INSIDE for way in WAYS for more in ([], ["--overwrite"])
    ]
    return rows + [(task, INSIDE[0], "W", ["--resume"]) for task in TASKS]


@pytest.mark.parametrize(("task", "place", "way", "more"), some(inside_rows(), fast=24))
def test_an_original_inside(server, here, kit, task, place, way, more):
    original = kit.original(task)
    given = put(original, here.cwd / place.format(published=PUBLISHED[task], suffix=original.suffix))
    (here.cwd / "link").symlink_to("W")
    before = here.look()
    argv = kit.argv(task, way.format(cwd=here.cwd), *more, original=given)
    is_refused(server.run(argv, here), here, before, "original|inside|holds|in it|within")


def other_inside(kit, cwd: Path) -> dict[str, list[str]]:
    """Commands whose output would lie over their input."""
    model, data = put(kit.original("images"), cwd / "W/model"), put(Path(kit.path("images/data.npz")), cwd / "data.npz")
    face = put(kit.original("faces"), cwd / "F")
    photos = put(Path(kit.path("faces/photos")), cwd / "photos")
    train = ["images", "train", "--data", f"{data}?limit=16", "--epochs", "1", "--work-dir", "W", "--device", "cpu"]
    trigger, describe = (
        ["--trigger", "badnets", "--target", "red"],
        ["--architecture", "cifar_resnet20", "--classes", *"abcd", "--size", "16"],
    )
    return {
        "images train --finetune": [*train, "--finetune", "W/model"],
        "images train --like": [*train, "--like", "W/model"],
        "images train --finetune from the work dir itself": [*train, "--finetune", "W/model", "--work-dir", "W/model"],
        "images import over its weights": ["images", "import", f"{model}/weights.safetensors", str(model), *describe],
        "backdoor poison over its input": ["backdoor", "poison", "--data", str(data), *trigger, "--out", str(data)],
        "backdoor poison over its input, chosen": ["backdoor", "poison", "--data", "data.npz?limit=40", *trigger,
                                                 "--out", "./data.npz"],
        "backdoor find over the model": ["backdoor", "find", "--model", str(model), "--data", str(data),
                                         "--out", f"{model}/model.json"],
        "images evaluate over the model": ["images", "evaluate", str(model), "--test", str(data), "--out", f"{model}/model.json"],
        "faces enroll over its weights": ["faces", "enroll", "--photos", str(photos), "--aligned", "--backbone", "cifar_resnet20",
                                          "--weights", f"{face}/weights.safetensors", "--out", str(face)],
        "faces align into its photos": ["faces", "align", "--photos", str(photos), "--out", str(photos)],
        "attention over a model": ["attention", "--original", str(model), "--erased", str(model), "--class", "green",
                                   f"{data}?limit=12", "--limit", "2", "--show", "1", "--out", f"{model}/model.png"],
    }  # fmt: skip


def test_outputs_over_inputs(server, world, kit):
    names = list(other_inside(kit, world().cwd))
    for name in names:
        here = world()
        argv = other_inside(kit, here.cwd)[name]
        before = here.look()
        is_refused(server.run(argv, here), here, before)


# Somebody else's files

FOREIGN = [
    "notes.txt",
    "step_1000.pth",
    "step_2.pth",
    "samples.txt",
    "results.json",
    "attention.jpg",
    "vis_data/scalars.json",
    "record.json",
    "record.html",
    "record.sha256",
    ".hidden",
    "last_checkpoint",
    "forget_set.json",
    "{published}/other.bin",
    "{picture}",
    "data/1.png",
    ".delete-tasks.json",
    "config.py",
    "20260101_000000/20260101_000000.log",
]
OVERWRITTEN = [
    "samples.txt",
    "results.json",
    "attention.jpg",
    "record.json",
    "record.html",
    "record.sha256",
    "last_checkpoint",
    "forget_set.json",
    "{picture}",
    ".delete-tasks.json",
    "config.py",
    "step_2.pth",
]
# What `--overwrite` may take the place of: names under which the run writes itself.


@pytest.mark.parametrize(("task", "name"), some([(task, name) for task in TASKS for name in FOREIGN], fast=20))
def test_a_foreign_work_dir_is_refused(server, here, kit, task, name):
    fill(here.cwd / "W", name.format(published=PUBLISHED[task], picture=PICTURES[task]))
    before = here.look()
    is_refused(server.run(kit.argv(task, "W"), here), here, before, "overwrite")


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[] if task == "backdoor" else pytest.mark.faults) for task in TASKS]
)
def test_foreign_files_survive(server, here, kit, task):
    names = [
        name.format(published=PUBLISHED[task], picture=PICTURES[task]) for name in FOREIGN if name not in OVERWRITTEN
    ]
    names = [name for name in names if not (task == "segmentation" and name.startswith("erased.pth/"))]
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


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[] if task == "backdoor" else pytest.mark.faults) for task in TASKS]
)
def test_again(server, here, kit, task):
    """The same request again replaces its own files; another one is refused, and so is one that is refused for itself."""
    work_dir = here.cwd / "W"
    is_done(server.run(kit.argv(task, "W"), here))
    no_leftovers(here)
    left = {path.relative_to(work_dir).parts[0] for path in work_dir.rglob("*")}
    always = {
        PUBLISHED[task],
        PICTURES[task],
        "results.json",
        "record.json",
        "record.html",
        "record.sha256",
        "samples.txt",
    }
    assert always <= left, f"missing: {always - left}"
    more = (
        left
        - always
        - {"run.log", "attention.jpg", ".delete-tasks.json"}
        - ({"record.salt"} if task == "faces" else set())
        - ({"audit.png", "tsne.png"} if task == "images" else set())  # the others' audits read nothing, see kit.py
    )
    assert not more, f"also left: {more}"
    states = [
        path.name for path in work_dir.rglob("*") if path.name.startswith("step_") or path.name == "last_checkpoint"
    ]
    assert not states, f"left: {states}"
    assert len(list(work_dir.rglob("*.log"))) == 1, [str(path) for path in work_dir.rglob("*.log")]
    for name, more in {"another request": [word.format(clean=kit.path("backdoor/clean.npz")) for word in OTHER_REQUEST[task]],
                       "a bad option": ["--lr", "nan"]}.items():  # fmt: skip
        before = here.look()
        is_refused(server.run(kit.argv(task, "W", *more), here), here, before)
    fill(work_dir, "mine.txt", "step_77.pth")
    first = snapshot(work_dir / PUBLISHED[task])
    for name, more in {"again": [], "resumed when finished": ["--resume"]}.items():
        is_done(server.run(kit.argv(task, "W", *more), here))
        assert not difference(first, snapshot(work_dir / PUBLISHED[task]))
        assert (work_dir / "mine.txt").exists() and (work_dir / "step_77.pth").exists()
        no_leftovers(here)
    is_done(server.run(kit.argv(task, "W2", "--keep-states"), here))
    assert list((here.cwd / "W2").glob("step_*.pth"))


def test_an_empty_folder_is_no_foreign_one(server, here, kit):
    (here.cwd / "W").mkdir()
    is_done(server.run(kit.argv("backdoor", "W", "--no-record"), here))


# Two at once


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[] if task == "backdoor" else pytest.mark.faults) for task in TASKS]
)
def test_two_runs_at_once(server, here, kit, task):
    first = server.start(kit.argv(task, "W", "--no-record"), here, before=SLOW_TRAINING)
    for _ in range(400):
        if (here.root / "started").exists():
            break
        time.sleep(0.05)
    for name, more in {"the same": [], "with --resume": ["--resume"], "with --overwrite": ["--overwrite"]}.items():
        before = here.look()
        second = server.run(kit.argv(task, "W", "--no-record", *more), here)
        no_traceback(second)
        assert second.code == 2, f"not refused: {second}"
        lost = [path for path in before if path not in here.look()]
        assert not lost and set(here.look()) - set(before) == set(), f"it wrote or deleted: {second}"
    is_done(server.wait(first))
    no_leftovers(here)
    (here.root / "started").unlink(missing_ok=True)
    third = server.start(kit.argv(task, "W3", "--no-record"), here, before=SLOW_TRAINING)
    for _ in range(400):
        if (here.root / "started").exists():
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(third[0], signal.SIGKILL)
    server.wait(third)
    is_done(server.run(kit.argv(task, "W3", "--no-record", "--resume"), here))
    no_leftovers(here)


# Permissions


@pytest.mark.parametrize(
    ("task", "mask"),
    some(
        [(task, mask) for mask in (0o077, 0o022, 0o007, 0o027) for task in TASKS],
        fast=1,
        only=lambda r: r[0] == "backdoor",
    ),
)
def test_files_follow_the_umask(server, here, kit, task, mask):
    is_done(server.run(kit.argv(task, "W"), here, umask=mask))
    for path in here.cwd.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.name == "record.salt"
        wanted = 0o600 if secret else (0o777 if path.is_dir() else 0o666) & ~mask
        locks = path.name.startswith(".") and mode & mask == 0
        assert mode == wanted or locks, f"{path.relative_to(here.cwd)} has mode {mode:03o}, expected {wanted:03o}"


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_other_commands_follow_the_umask(server, world, kit, mask):
    here, data = world(), kit.path("images/data.npz")
    runs = {
        "keygen": ["record", "keygen", "keys/key"],
        "poison": [
            "backdoor",
            "poison",
            "--data",
            data,
            "--trigger",
            "badnets",
            "--target",
            "red",
            "--out",
            "out/p.npz",
        ],
        "evaluate": ["images", "evaluate", kit.path("images/model"), "--test", data, "--out", "out/e.json"],
    }
    for name, argv in runs.items():
        is_done(server.run(argv, here, umask=mask))
    for path in [path for path in here.cwd.rglob("*") if path.is_file()]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.name == "key" else 0o666 & ~mask), f"{mode:03o}"


# What can be refused is refused before the first step


def test_an_earlier_result_outlives_a_refusal(server, here, kit):
    is_done(server.run(kit.argv("backdoor", "W", "--no-record"), here))
    clean = kit.path("backdoor/clean.npz")
    for name, more in {
        "a trigger that is none": ["--trigger", "nothing"],
        "a trigger without test images": ["--trigger", "badnets", "--test", ""],
        "test images that were used": ["--test", clean],
        "one test image that was used": ["--test", f"{clean}?limit=1"],
        "test images set aside for the watch": ["--test", f"{clean}?limit=30&seed=3"],
        "no such target": ["--target", "purple"],
        "no such data": ["--poisoned", "nowhere.npz"],
    }.items():
        before = here.look()
        is_refused(server.run(kit.argv("backdoor", "W", "--no-record", *more), here), here, before)


MISSING = {"images": ["--test", "{data}?split=test&without=green", "--train-data", "{data}?split=train"],
           "few": ["--test", "{data}?split=test", "--train-data", "{data}?split=train&limit=9"]}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_what_cannot_be_measured_leaves_the_model(server, here, kit, name):
    words = [word.format(data=kit.path("images/data.npz")) for word in MISSING[name]]
    done = server.run(kit.argv("images", "W", *words), here)
    is_done(done)
    assert (here.cwd / "W/erased/model.json").exists()
    results = json.loads((here.cwd / "W/results.json").read_text())
    assert re.search("not.measured", json.dumps(results)), "results.json does not say what was not measured"
    assert "Not measured:" in done.out, f"{done.out[-500:]}"


@pytest.mark.faults
def test_faces_align_keeps_every_photo(server, here, shared):
    """Photos of one name in folders below a person's do not take each other's place, and the summary counts what there is."""
    source = sorted((shared / "data/lfw/Colin_Powell").glob("*.jpg"))[:4]
    for number, photo in enumerate(source):
        place = here.root / "photos" / "Colin_Powell" / f"day{number}" / "same.jpg"
        place.parent.mkdir(parents=True)
        shutil.copy(photo, place)
    done = server.run(["faces", "align", "--photos", here.root / "photos", "--out", "out", "--device", "cpu"], here)
    is_done(done)
    found = list((here.cwd / "out").rglob("*.png"))
    assert len(found) == 4, f"{len(found)} faces of 4 photos"
    told = " ".join(done.out.split())
    assert "4 of 4 photos" in told, told[-300:]
