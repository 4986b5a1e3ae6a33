"""Resumed runs: another request is refused, damage is named, the same request continues."""

import json
import shutil
from functools import cache, partial
from pathlib import Path

import harness
import numpy as np
import pytest
import torch
from harness import World, is_done, no_leftovers
from killing import half_done, same, weights_of
from kit import TASKS, without

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

# Task -> words that make it another request than the one that was begun.
OTHER = {
    "images": {
        "other data": "--forget {data}?split=train&limit=16",
        "the other split": "--forget {data}?split=test --test {data}?split=train",
        "an added retain set": "--retain {data}?split=train&class=red", "other classes": "--classes blue",
        "more classes": "--classes green blue", "another seed": "--seed 7", "another rate": "--lr 1e-3",
        "another batch size": "--batch-size 4", "fewer steps": "--steps 1", "another method": "--method HeadOnly",
        "another temperature": "--temperature 3", "sharpened": "--teacher-temperature 0.5",
        "another masking": "--masking own", "other augmentation": "--augment plain", "a stop": "--stop 0.5",
        "norms that train": "--norm-train", "another schedule": "--schedule constant",
    },
    "segmentation": {
        "other data": "--cfg-options train_dataloader.dataset.indices=2",
        "another split": "--cfg-options train_dataloader.dataset.data_prefix.img_path=leftImg8bit/val "
                         "train_dataloader.dataset.data_prefix.seg_map_path=gtFine/val",
        "other classes": "--classes person", "another seed": "--seed 7", "another rate": "--lr 1e-3",
        "another batch size": "--batch-size 2", "an inherited batch size": "--cfg-options train_dataloader.batch_size=3",
        "fewer steps": "--steps 1", "accumulation": "--cfg-options optim_wrapper.accumulative_counts=2",
        "other locations": "--cfg-options unlearn.locations=forgotten",
    },
    "faces": {
        "other photos": "--photos {photos}/test", "another person": "--person Cyd", "two people": "--person Bo Cyd",
        "another seed": "--seed 7", "another rate": "--lr 0.02", "another batch size": "--batch-size 3",
        "fewer steps": "--steps 9", "another part": "--trained embedding", "another stop": "--stop 1e-3",
        "other directions": "--directions 2",
    },
    "backdoor": {
        "other samples": "--poisoned {only}?limit=20", "another retain set": "--retain {clean}?limit=30",
        "the test set as retain set": "--retain {test} --test {clean}", "another target": "--target green",
        "another seed": "--seed 7", "another rate": "--lr 1e-3", "another batch size": "--batch-size 4",
        "fewer retain samples each": "--retain-each 2", "no mixtures": "--mix 0", "paste": "--paste 0.3",
        "another share held": "--held-out 0.4", "fewer steps": "--steps 2", "the second choice": "--second-choice",
    },
}  # fmt: skip


def places(kit) -> dict[str, str]:
    found = {name: kit.path(f"backdoor/{name}.npz") for name in ("only", "clean", "test")}
    return {**found, "data": kit.path("images/data.npz"), "photos": kit.path("faces/photos")}


@pytest.fixture(scope="module")
def halves(server, kit, references, tmp_path_factory):
    """``halves(task)``: folder of a run that was killed when half of its states were saved."""

    @cache
    def kill(task: str) -> Path:
        here = World(tmp_path_factory.mktemp(f"half_{task}") / "world0")
        half_done(server, kit.argv(task, "W"), here, references(task))
        return here.cwd

    return kill


# Files that a refused resume may write: the log, a lock that a kill left, the selection, which can be found again.
is_refused = partial(harness.is_refused, ignore=("run.log", ".lock", "forget_set.json", "tasks.json"))


@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS for n in OTHER[t]])
def test_another_request(server, here, kit, halves, task, name):
    shutil.copytree(halves(task), here.cwd, dirs_exist_ok=True)
    before = here.look()
    words = kit.argv(task, "W", "--no-record", "--resume", *OTHER[task][name].format(**places(kit)).split())
    done = server.run(without(words, "--batch-size") if "inherited" in name else words, here)
    is_refused(done, here, before, "resume|request|--work-dir|overwrite|test images")


def edit(path: Path, **new) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **new}))


def edit_state(path: Path, **new) -> None:
    torch.save({**torch.load(path, weights_only=True), **new}, path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


STATE, POINTER, CHOSEN, MANIFEST = "step_*.pth", "last_checkpoint", "forget_set.json", ".delete-tasks.json"
SPOILT = {  # what is done to a file of a half-finished work dir
    "state torn": (STATE, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "state empty": (STATE, lambda path: path.write_bytes(b"")),
    "state is text": (STATE, lambda path: path.write_bytes(b"somebody's notes")),
    "state is a plain state dict": (STATE, lambda path: torch.save({"weight": torch.zeros(3)}, path)),
    "state is a list": (STATE, lambda path: torch.save([1, 2], path)),
    "state without an optimizer": (STATE, lambda path: edit_state(path, optimizer={})),
    "state without a place": (STATE, lambda path: edit_state(path, meta={})),
    "state of no run": (STATE, lambda path: edit_state(path, unlearn={})),
    "state with other tensors": (STATE, lambda path: edit_state(path, state_dict={"x": torch.zeros(2)})),
    "state gone": (STATE, Path.unlink), "state is a folder": (STATE, to_folder),
    "pointer empty": (POINTER, lambda path: path.write_text("")),
    "pointer to nothing": (POINTER, lambda path: path.write_text("step_999.pth")),
    "pointer out of the folder": (POINTER, lambda path: path.write_text("../../../etc/passwd")),
    "pointer binary": (POINTER, lambda path: path.write_bytes(bytes(range(256)))),
    "pointer gone": (POINTER, Path.unlink),
    "selection torn": (CHOSEN, lambda path: path.write_text(path.read_text()[:-20])),
    "selection is a list": (CHOSEN, lambda path: path.write_text("[1]")),
    "selection is null": (CHOSEN, lambda path: path.write_text("null")),
    "selection of samples that are not there": (CHOSEN, lambda path: edit(path, indices=[10**6])),
    "selection of words": (CHOSEN, lambda path: edit(path, indices=["a"])),
    "selection of nothing": (CHOSEN, lambda path: edit(path, indices=[])),
    "selection without indices": (CHOSEN, lambda path: path.write_text(json.dumps({"key": json.loads(path.read_text())["key"]}))),
    "selection gone": (CHOSEN, Path.unlink),
    "manifest torn": (MANIFEST, lambda path: path.write_bytes(path.read_bytes()[:-15])),
    "manifest is a list": (MANIFEST, lambda path: path.write_text("[]")), "manifest gone": (MANIFEST, Path.unlink),
    "manifest of files elsewhere": (MANIFEST, lambda path: edit(path, files=["../precious.txt", "/etc/hostname", "."])),
}  # fmt: skip


@pytest.mark.parametrize("task", ["images", "backdoor"])
@pytest.mark.parametrize("name", SPOILT)
def test_damaged_work_dirs(server, here, kit, halves, references, task, name):
    """The run is refused without any change, or continues to the same weights."""
    shutil.copytree(halves(task), here.cwd, dirs_exist_ok=True)
    (here.cwd / "precious.txt").write_text("mine")
    file, damage = SPOILT[name]
    damage(next((here.cwd / "W").glob(file)))
    before = here.look()
    done = server.run(kit.argv(task, "W", "--no-record", "--resume"), here)
    assert (here.cwd / "precious.txt").exists()
    if done.code == 2:
        is_refused(done, here, before)
    else:
        is_done(done)
        same(task, here, references(task))
        no_leftovers(here)


SAME = {"as it was": [], "without a record": ["--no-record"], "with a reference": ["--reference", "R-2"]}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SAME)
def test_the_same_request_goes_on(server, here, kit, halves, references, task, name):
    shutil.copytree(halves(task), here.cwd, dirs_exist_ok=True)
    is_done(server.run(kit.argv(task, "W", "--resume", *SAME[name]), here))
    same(task, here, references(task))
    no_leftovers(here)


@pytest.mark.parametrize("task", TASKS)
def test_a_work_dir_that_was_moved_goes_on(server, here, kit, halves, references, task):
    shutil.copytree(halves(task), here.cwd / "deep", dirs_exist_ok=True)
    is_done(server.run(kit.argv(task, "deep/W", "--resume", "--no-record"), here))
    assert weights_of(task, here.cwd / "deep/W").keys() == references(task).weights.keys()


@pytest.mark.parametrize("task", TASKS)
def test_another_original(server, here, kit, references, task):
    """The path is the same, the weights differ."""
    source = kit.original(task)
    copy = here.root / f"original{source.suffix}"
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    argv = kit.argv(task, "W", original=copy)
    half_done(server, argv, here, references(task))
    if source.is_dir():
        from delete_images.models.model_file import load_model, save_model

        network, spec = load_model(copy)
        with torch.no_grad():
            next(network.parameters()).mul_(1.01)
        save_model(copy, network, spec)
    else:
        content = torch.load(copy, weights_only=True)
        next(iter(content["state_dict"].values())).mul_(1.01)
        torch.save(content, copy)
    before = here.look()
    is_refused(server.run([*argv, "--no-record", "--resume"], here), here, before, "original")


CHANGES = {
    "labels": lambda x, y: (x, np.roll(y, 1)),
    "pixels": lambda x, y: (255 - x, y),
    "fewer": lambda x, y: (x[:60], y[:60]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_data_changed_under_the_same_name(server, here, kit, references, name):
    """A file of the same name has other labels, other pixels or fewer samples."""
    data = here.root / "data.npz"
    shutil.copy(kit.path("images/data.npz"), data)
    argv = kit.argv("images", "W", "--no-record", "--forget", f"{data}?split=train")
    half_done(server, argv, here, references("images"))
    with np.load(data) as file:
        arrays = dict(file)
    arrays["x_train"], arrays["y_train"] = CHANGES[name](arrays["x_train"], arrays["y_train"])
    np.savez(data, **arrays)
    before = here.look()
    done = server.run([*argv, "--resume"], here)
    if name == "pixels" and done.code == 0:
        pytest.skip("pixels of samples with the same names are not compared")
    is_refused(done, here, before)
