"""Outputs follow no link and take the place of no input; a finished run is not done again; exchanged originals are refused."""

import itertools
import os
import shutil
from pathlib import Path

import pytest
from commands import parsers, written
from faults import AT_THE_END, DURING
from harness import difference, is_done, is_refused, make_socket, no_leftovers, no_traceback, snapshot, some
from helpers import read_json
from kit import PUBLISHED, TASKS

MOMENTS = {"during": DURING, "after publishing": AT_THE_END}
LINK = """
import os
def change():
    place = case["place"]
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.lexists(place):
        os.rename(place, place + ".moved")
    os.symlink(case["target"], place)
"""

# Links, pipes and sockets in the place of an output


KINDS = {
    "a link to the original": lambda place, original: place.symlink_to(original),
    "a link to the original's folder": lambda place, original: place.symlink_to(original.parent),
    "a link to nothing": lambda place, original: place.symlink_to("nothing"),
    "a link to itself": lambda place, original: place.symlink_to(place.name),
    "a link to a device": lambda place, original: place.symlink_to("/dev/null"),
    "a pipe": lambda place, original: os.mkfifo(place),
    "a socket": lambda place, original: make_socket(place),
}


def moved(kit, task: str, here) -> Path:
    """Copy the original into the world, in a folder of its own; return its path."""
    original, source = here.cwd / "original" / "model.pth", kit.original(task)
    if source.is_dir():
        return Path(shutil.copytree(source, here.cwd / "original"))
    original.parent.mkdir()
    return Path(shutil.copy(source, original))


IN_PLACE = [
    (task, name, *row) for task in TASKS for name in written(task) if "/" not in name
    for row in itertools.product(KINDS, ("--overwrite", "--resume", ""))
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "name", "kind", "more"),
    some(IN_PLACE, 2, lambda row: row[0] == "backdoor" and row[3] == "--overwrite"),
)
def test_a_link_in_an_outputs_place(server, here, kit, task, name, kind, more):
    original = moved(kit, task, here)
    (here.cwd / "W").mkdir()
    KINDS[kind](here.cwd / "W" / name, original)
    before = here.look()
    done = server.run(kit.argv(task, "W", *more.split(), original=original), here)
    is_refused(done, here, before, "link|pipe|socket|device|holds")


@pytest.mark.parametrize(
    ("task", "name", "moment"),
    some(itertools.product(TASKS, ["W", *written("images"), "erased.pth", "cleaned"], MOMENTS), fast=2,
         only=lambda row: row[0] == "images" and row[1] in ("W", "erased")),
)  # fmt: skip
def test_a_link_that_appears_during_the_run(server, here, kit, task, name, moment):
    original = moved(kit, task, here)
    folder = original if original.is_dir() else original.parent
    before = snapshot(folder)
    place = here.cwd / (name if name == "W" else f"W/{name}")
    target = folder if name in ("W", PUBLISHED[task]) and PUBLISHED[task] != "erased.pth" else next(folder.iterdir())
    target = folder if name == "W" else target
    case = {"before": MOMENTS[moment] + LINK, "place": str(place), "target": str(target)}
    done = server.run(kit.argv(task, "W", original=original), here, **case)
    no_traceback(done)
    assert done.code in (0, 2), f"{done}"
    assert not difference(before, snapshot(folder)), f"the original was changed: {done}"
    if done.code == 0:
        models = read_json(here.cwd, "W/record.json")["models"]
        assert models["original"]["tensors_sha256"] != models["erased"]["tensors_sha256"], f"{done}"


@pytest.mark.faults
@pytest.mark.parametrize("make", [Path.symlink_to, os.link, shutil.copy])
def test_files_beside_a_log_of_records_stay(server, here, kit, make):
    source = here.cwd / "mine.json"
    source.write_text('{"mine": 1}')
    for name in (
        ".records.jsonl.lock",
        "records.jsonl.lock",
        ".x.log.lock",
        ".records.jsonl.delete-tasks.tmp",
        "W.lock",
        ".W.lock",
    ):
        make(here.cwd / name, source) if make is Path.symlink_to else make(source, here.cwd / name)
    before = here.look()
    is_done(server.run(kit.argv("backdoor", "W", "--record-log", "records.jsonl"), here))
    assert all(here.look()[path] == state for path, state in before.items() if path != str(here.cwd))


# Inputs are no outputs

FORGET = "images forget --model M --forget D.npz?limit=48 --classes green --steps 1 --device cpu"
ENROLL = "faces enroll --photos P --aligned --backbone cifar_resnet20"
DESCRIBE = "--architecture cifar_resnet20 --classes a b c d --size 16"
POISON = "backdoor poison --data D.npz --trigger badnets --target red"
ATTENTION = "attention --original M --erased E --class green D.npz?limit=12 --limit 2 --show 1"
AUDIT = "audit --original M --erased E --forget D.npz?class=green&limit=12 --data D.npz --device cpu"
TRAIN = "images train --data D.npz?limit=16 --epochs 1 --device cpu"
OVER = [
    *(f"{ATTENTION} --out {place}" for place in ("M/model.png", "E/model.png", "M/a/b.png", "D.npz/x.png", "./M/../M/x.jpg")),
    *(f"{FORGET} --work-dir {place}" for place in ("M", "M/x", "M/x/y", ".", "D.npz", "D.npz/x", "./M/../M/z")),
    *(f"{FORGET} --work-dir W --sign {key}" for key in ("W/run.log", "W/key", "W/results.json")),
    *(f"{FORGET} --work-dir W --record-log {log}" for log in ("M/model.json", "D.npz", "M/log", "W/results.json", "W/run.log",
                                                             "key", "link.json", "W/new.jsonl")),
    *(f"{TRAIN} --{way} M --work-dir {place}" for way in ("like", "finetune") for place in ("M", "M/x", ".")),
    *(f"{AUDIT} --work-dir {place}" for place in ("M", "E", "M/x", "E/x", ".", "D.npz")),
    *(f"images evaluate M --test D.npz --out {place}" for place in ("M/model.json", "M/x.json", "M/weights.pth", "D.npz")),
    *(f"images import M/weights.safetensors {place} {DESCRIBE}" for place in ("M", ".", "M/weights.safetensors")),
    *(f"{POISON} --out {place}" for place in ("D.npz", "./D.npz", "hard.npz")),
    *(f"backdoor find --model M --data D.npz --out {place}" for place in ("M/model.json", "M/x.json", "D.npz")),
    *(f"{ENROLL} --out {place}" for place in ("P", ".")),
    *(f"{ENROLL} --weights F/weights.safetensors --out {place}" for place in ("F", ".", "F/weights.safetensors")),
    *(f"faces embed --model F --photos P --aligned --out {place}" for place in ("F/gallery.npz", "F/x.npz", "F/a/x.npz")),
    *(f"faces align --photos P --out {place}" for place in ("P", ".")),
    *(f"faces import --weights F/weights.safetensors --backbone cifar_resnet20 --embedding-size 16 --head cosine --out {place}"
      for place in ("F", ".")),
    *(f"faces remove --model F --person Bo --photos P --aligned --work-dir {place}" for place in ("F", "F/x", ".", "P")),
    *(f"benchmark grid.py --work-dir {place} --cells-only --device cpu" for place in ("M", "M/x", "M/x/y", ".")),
    "record sign W --key W/record.sha256.sig",
    "record keygen key",
]  # fmt: skip


@pytest.mark.parametrize("more", ["--overwrite", ""])
@pytest.mark.parametrize("words", some(OVER, fast=5))
def test_an_input_as_output(server, here, kit, words, more):
    for source, target in (("images/model", "M"), ("images/model", "E"), ("faces/model", "F"), ("faces/photos", "P"),
                           ("key", "key"),
                           ("images/data.npz", "D.npz"), ("key", "W/run.log"), ("key", "W/key"), ("key", "W/results.json"),
                           ("key", "W/record.sha256.sig"), ("key", "W/record.sha256")):  # fmt: skip
        (here.cwd / target).parent.mkdir(exist_ok=True)
        (shutil.copytree if Path(kit.path(source)).is_dir() else shutil.copy)(kit.path(source), here.cwd / target)
    (here.cwd / "link.json").symlink_to("M/model.json")
    os.link(here.cwd / "D.npz", here.cwd / "hard.npz")
    grid = Path(kit.path("grid.py")).read_text().replace(kit.path("images/model"), str(here.cwd / "M"))
    (here.cwd / "grid.py").write_text(grid)
    before = here.look()
    argv = words.split()
    if more and any(
        "--overwrite" in param.opts for name, command in parsers() if words.startswith(name) for param in command.params
    ):
        argv.append(more)
    is_refused(server.run(argv, here), here, before)


# Finished runs

SAME = dict(
    zip(
        TASKS,
        (f"--{word}".split() for word in ("classes GREEN", "classes Car", "person BO", "target Red")),
        strict=True,
    )
)


@pytest.mark.parametrize("task", some(TASKS, fast=1, only=lambda task: task == "backdoor"))
def test_a_finished_run_is_not_done_again(server, here, kit, copy_of, task):
    folder = copy_of(task)
    signed = ["--sign", kit.path("key"), "--reference", "R-1"]
    before = here.look()
    for more in ([], ["--steps", "3"], ["--reference", "R-2"], ["--seed", "5"], SAME[task]):
        is_refused(server.run(kit.argv(task, "W", *signed, *more), here), here, before, "finished on 20.*--overwrite")
    for more in (["--resume"], ["--resume", "--steps", "3"], ["--resume", *SAME[task]]):
        done = server.run(kit.argv(task, "W", *signed, *more), here)
        is_done(done)
        assert "finished on" in done.output and not difference(before, here.look()), f"{done}"
    first = read_json(folder, "record.json")["id"]
    is_done(server.run(kit.argv(task, "W", *signed, "--overwrite"), here))
    assert read_json(folder, "record.json")["id"] != first
    no_leftovers(here)


# Originals that are exchanged during a run

EXCHANGE = """
import os, shutil
def change():
    path = case["path"]
    shutil.copy(path, path + ".new")
    with open(path + ".new", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]) if case["how"] == "another" else last)
    if case["how"] == "gone":
        os.remove(path + ".new"), os.remove(path)
    else:
        os.replace(path + ".new", path)
"""


def exchange_rows():
    files = {task: ("weights.safetensors", "model.json") for task in TASKS if task != "segmentation"}
    for task, moment, how in itertools.product(TASKS, MOMENTS, ("another", "the same", "gone")):
        yield from ((task, name, moment, how) for name in files.get(task, ("model.pth",)))
        if task == "images":
            yield task, "../data.npz", moment, how


@pytest.mark.parametrize(
    ("task", "name", "moment", "how"),
    some(exchange_rows(), 2, lambda row: row[0] == "backdoor" and row[3] != "gone" and row[1] != "model.json"),
)
def test_an_exchanged_original(server, here, kit, task, name, moment, how):
    original = moved(kit, task, here)
    path = (original / name if original.is_dir() else original).resolve()
    data = shutil.copy(kit.path("images/data.npz"), here.cwd)
    more = ["--forget", f"{data}?split=train&limit=48"] if task == "images" else []
    argv = kit.argv(task, "W", *more, original=original)
    done = server.run(argv, here, before=MOMENTS[moment] + EXCHANGE, path=str(path), how=how)
    if how == "the same":
        is_done(done)
        return
    no_traceback(done)
    assert done.code == 2 and "changed during the run" in done.err and path.name in done.err, f"{done}"
    assert not (here.cwd / "W" / "record.json").exists(), "a record names a file that was not the original"
