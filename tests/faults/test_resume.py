"""Half a run, resumed with something changed: another request is refused, damage is named, the same goes on."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from faults import WATCH
from harness import difference, is_done, no_leftovers, no_traceback, some
from kit import PUBLISHED, TASKS, without

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

# Task -> words that make it another request than the one that was begun.
OTHER = {
    "images": {
        "other data": ["--forget", "{data}?split=train&limit=16"],
        "the other split": ["--forget", "{data}?split=test", "--test", "{data}?split=train"],
        "an added retain set": ["--retain", "{data}?split=train&class=red"],
        "other classes": ["--classes", "blue"],
        "more classes": ["--classes", "green", "blue"],
        "another seed": ["--seed", "7"],
        "another rate": ["--lr", "1e-3"],
        "another batch size": ["--batch-size", "4"],
        "fewer steps": ["--steps", "1"],
        "another method": ["--method", "HeadOnly"],
        "another temperature": ["--temperature", "3"],
        "sharpened": ["--teacher-temperature", "0.5"],
        "another masking": ["--masking", "own"],
        "other augmentation": ["--augment", "plain"],
        "a stop": ["--stop", "0.5"],
        "norms that train": ["--norm-train"],
        "another schedule": ["--schedule", "constant"],
    },
    "segmentation": {
        "other data": ["--cfg-options", "train_dataloader.dataset.indices=2"],
        "another split": ["--cfg-options", "train_dataloader.dataset.data_prefix.img_path=leftImg8bit/val",
                          "train_dataloader.dataset.data_prefix.seg_map_path=gtFine/val"],
        "other classes": ["--classes", "person"],
        "another seed": ["--seed", "7"],
        "another rate": ["--lr", "1e-3"],
        "another batch size": ["--batch-size", "2"],
        "an inherited batch size": ["--cfg-options", "train_dataloader.batch_size=3"],
        "fewer steps": ["--steps", "1"],
        "accumulation": ["--cfg-options", "optim_wrapper.accumulative_counts=2"],
        "other locations": ["--cfg-options", "unlearn.locations=forgotten"],
    },
    "faces": {
        "other photos": ["--photos", "{photos}/test"],
        "another person": ["--person", "Cyd"],
        "two people": ["--person", "Bo", "Cyd"],
        "another seed": ["--seed", "7"],
        "another rate": ["--lr", "0.02"],
        "another batch size": ["--batch-size", "3"],
        "fewer steps": ["--steps", "9"],
        "another part": ["--trained", "embedding"],
        "another stop": ["--stop", "1e-3"],
        "other directions": ["--directions", "2"],
    },
    "backdoor": {
        "other samples": ["--poisoned", "{poisoned}?limit=20"],
        "another retain set": ["--retain", "{clean}?limit=30"],
        "the test set as retain set": ["--retain", "{test}", "--test", "{clean}"],
        "another target": ["--target", "green"],
        "another seed": ["--seed", "7"],
        "another rate": ["--lr", "1e-3"],
        "another batch size": ["--batch-size", "4"],
        "fewer retain samples each": ["--retain-each", "2"],
        "no mixtures": ["--mix", "0"],
        "trigger_patches": ["--trigger-patches", "0.3"],
        "another share held": ["--held-out", "0.4"],
        "fewer steps": ["--steps", "2"],
        "the second choice": ["--second-choice"],
    },
}  # fmt: skip


def places(kit) -> dict[str, str]:
    found = {
        name: kit.path(f"backdoor/{file}.npz")
        for name, file in (("poisoned", "only"), ("clean", "clean"), ("test", "test"))
    }
    return {**found, "data": kit.path("images/data.npz"), "photos": kit.path("faces/photos")}


@pytest.fixture(scope="module")
def halves(server, kit, tmp_path_factory):
    """Task -> (the folder of a run that was killed when its first or second state lay there, the uninterrupted run's weights)."""
    from harness import World

    found = {}

    def get(task: str):
        if task not in found:
            here = World(tmp_path_factory.mktemp(f"half_{task}") / "world0")
            watch = here.root / "watch"
            is_done(server.run(kit.argv(task, "whole", "--no-record"), here, before=WATCH, watch=str(watch)))
            operations = watch.read_text().splitlines()
            states = [
                number
                for number, text in enumerate(operations)
                if text.startswith("os.rename") and text.endswith("last_checkpoint")
            ]
            weights = weights_of(task, here.cwd / "whole")
            shutil.rmtree(here.cwd / "whole")
            server.run(kit.argv(task, "W", "--no-record"), here, before=WATCH, at=states[-2] + 1)
            assert list((here.cwd / "W").glob("step_*.pth")), "no state was saved before the kill"
            found[task] = here.cwd, weights
        return found[task]

    return get


def weights_of(task, work_dir):
    path = work_dir / PUBLISHED[task]
    from delete_tasks.checkpoint import load_file, state_dict_of

    return state_dict_of(load_file(path if path.is_file() else path / "weights.safetensors"))


def essential(looked):
    """Without what a refused resume may touch: the log, a lock that a kill left, the selection, which can be found again."""
    return {
        path: state
        for path, state in looked.items()
        if not path.endswith(("run.log", ".lock", "forget_set.json", "tasks.json"))
    }


def same(task, here, weights) -> None:
    found = weights_of(task, here.cwd / "W")
    assert all(torch.equal(value, found[name]) for name, value in weights.items()), (
        "other weights than the uninterrupted run's"
    )


@pytest.mark.parametrize(
    ("task", "name"),
    some([(t, n) for t in TASKS for n in OTHER[t]], fast=10, only=lambda row: row[0] in ("images", "backdoor")),
)
def test_another_request(server, here, kit, halves, task, name):
    shutil.copytree(halves(task)[0], here.cwd, dirs_exist_ok=True)
    before = here.look()
    more = [word.format(**places(kit)) for word in OTHER[task][name]]
    words = kit.argv(task, "W", "--no-record", "--resume", *more)
    done = server.run(without(words, "--batch-size") if "inherited" in name else words, here)
    no_traceback(done)
    assert done.code == 2, f"not refused: {done}"
    assert re.search("resume|request|--work-dir|overwrite|begun|another|other", done.err), (
        f"it does not say why: {done}"
    )
    changed = difference(essential(before), essential(here.look()))
    assert not changed, f"{changed}: {done}"


def spoil(folder, name: str) -> None:
    """Damage a half-finished work dir in one way."""
    state = next(folder.glob("step_*.pth"))
    pointer, chosen = folder / "last_checkpoint", folder / "forget_set.json"
    manifest = folder / ".delete-tasks.json"
    raw = state.read_bytes()

    def edit(path, how):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(how(content)))

    def state_with(**new):
        content = torch.load(state, weights_only=True)
        torch.save({**content, **new}, state)

    {
        "state torn": lambda: state.write_bytes(raw[: len(raw) // 2]),
        "state empty": lambda: state.write_bytes(b""),
        "state is text": lambda: state.write_bytes(b"somebody's notes"),
        "state is a plain state dict": lambda: torch.save({"weight": torch.zeros(3)}, state),
        "state is a list": lambda: torch.save([1, 2], state),
        "state without an optimizer": lambda: state_with(optimizer={}),
        "state without a place": lambda: state_with(meta={}),
        "state of no run": lambda: state_with(unlearn={}),
        "state with other tensors": lambda: state_with(state_dict={"x": torch.zeros(2)}),
        "state gone": state.unlink,
        "state is a folder": lambda: (state.unlink(), state.mkdir()),
        "pointer empty": lambda: pointer.write_text(""),
        "pointer to nothing": lambda: pointer.write_text("step_999.pth"),
        "pointer out of the folder": lambda: pointer.write_text("../../../etc/passwd"),
        "pointer binary": lambda: pointer.write_bytes(bytes(range(256))),
        "pointer gone": pointer.unlink,
        "selection torn": lambda: chosen.write_text(chosen.read_text()[:-20]),
        "selection is a list": lambda: chosen.write_text("[1]"),
        "selection is null": lambda: chosen.write_text("null"),
        "selection of samples that are not there": lambda: edit(chosen, lambda c: {**c, "indices": [10**6]}),
        "selection of words": lambda: edit(chosen, lambda c: {**c, "indices": ["a"]}),
        "selection of nothing": lambda: edit(chosen, lambda c: {**c, "indices": []}),
        "selection without indices": lambda: edit(chosen, lambda c: {"key": c["key"]}),
        "selection gone": chosen.unlink,
        "manifest torn": lambda: manifest.write_bytes(manifest.read_bytes()[:-15]),
        "manifest is a list": lambda: manifest.write_text("[]"),
        "manifest gone": manifest.unlink,
        "manifest of files elsewhere": lambda: edit(manifest, lambda c: {**c, "files": ["../precious.txt", "/etc/hostname",
        "."]}),
    }[name]()  # fmt: skip


SPOILT = """state torn;state empty;state is text;state is a plain state dict;state is a list;state without an optimizer;
state without a place;state of no run;state with other tensors;state gone;state is a folder;pointer empty;pointer to nothing;
pointer out of the folder;pointer binary;pointer gone;selection torn;selection is a list;selection is null;
selection of samples that are not there;selection of words;selection of nothing;selection without indices;selection gone;
manifest torn;manifest is a list;manifest gone;manifest of files elsewhere""".replace("\n", "").split(";")


@pytest.mark.parametrize(
    ("task", "name"),
    some([(t, n) for n in SPOILT for t in ("images", "backdoor")], fast=12, only=lambda row: row[0] == "backdoor"),
)
def test_damaged_work_dirs(server, here, kit, halves, task, name):
    """Refused with nothing changed, or gone on with and right; never a traceback, never other weights."""
    shutil.copytree(halves(task)[0], here.cwd, dirs_exist_ok=True)
    (here.cwd / "precious.txt").write_text("mine")
    spoil(here.cwd / "W", name)
    before = here.look()
    done = server.run(kit.argv(task, "W", "--no-record", "--resume"), here)
    no_traceback(done)
    assert (here.cwd / "precious.txt").exists()
    if done.code == 2:
        changed = difference(essential(before), essential(here.look()))
        assert not changed, f"{changed}: {done}"
    else:
        is_done(done)
        same(task, here, halves(task)[1])
        no_leftovers(here)


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "backdoor" else pytest.mark.faults) for t in TASKS])
def test_the_same_request_goes_on(server, world, kit, halves, task):
    for name, more in {
        "as it was": [],
        "without a record": ["--no-record"],
        "with a reference": ["--reference", "R-2"],
    }.items():
        here = world()
        shutil.copytree(halves(task)[0], here.cwd, dirs_exist_ok=True)
        is_done(server.run(kit.argv(task, "W", "--resume", *more), here))
        same(task, here, halves(task)[1])
        no_leftovers(here)
    here = world()
    shutil.copytree(halves(task)[0], here.cwd / "deep", dirs_exist_ok=True)
    is_done(server.run(kit.argv(task, "deep/W", "--resume", "--no-record"), here))
    assert weights_of(task, here.cwd / "deep/W").keys() == halves(task)[1].keys()


@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t == "backdoor" else pytest.mark.faults) for t in TASKS])
def test_another_original(server, world, kit, halves, task):
    """The same place, other weights."""
    here, source = world(), kit.original(task)
    copy = here.root / f"original{source.suffix}"
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    watch = here.root / "watch"
    is_done(server.run(kit.argv(task, "first", "--no-record", original=copy), here, before=WATCH, watch=str(watch)))
    states = [
        n
        for n, text in enumerate(watch.read_text().splitlines())
        if text.endswith("last_checkpoint") and "rename" in text
    ]
    server.run(kit.argv(task, "W", "--no-record", original=copy), here, before=WATCH, at=states[-2] + 1)
    assert list((here.cwd / "W").glob("step_*.pth")), "no state was saved before the kill"
    if source.is_dir():
        from delete_images.model_file import load_model, save_model

        network, spec = load_model(copy)
        with torch.no_grad():
            next(network.parameters()).mul_(1.01)
        save_model(copy, network, spec)
    else:
        content = torch.load(copy, weights_only=True)
        next(iter(content["state_dict"].values())).mul_(1.01)
        torch.save(content, copy)
    before = here.look()
    done = server.run(kit.argv(task, "W", "--no-record", "--resume", original=copy), here)
    no_traceback(done)
    assert done.code == 2 and "original" in done.err, f"not refused: {done}"
    assert not difference(essential(before), essential(here.look()))


def test_data_changed_under_the_same_name(server, world, kit):
    """More samples, and other pixels, in a file of the same name."""
    for name in ("labels", "pixels", "fewer"):
        here, data = world(), world().root / "data.npz"
        shutil.copy(kit.path("images/data.npz"), data)
        argv = kit.argv("images", "W", "--no-record", "--forget", f"{data}?split=train")
        watch = here.root / "watch"
        is_done(server.run([*argv, "--work-dir", "whole"], here, before=WATCH, watch=str(watch)))
        shutil.rmtree(here.cwd / "whole")
        states = [
            n
            for n, text in enumerate(watch.read_text().splitlines())
            if text.endswith("last_checkpoint") and "rename" in text
        ]
        server.run(argv, here, before=WATCH, at=states[-2] + 1)
        assert list((here.cwd / "W").glob("step_*.pth"))
        with np.load(data) as file:
            arrays = dict(file)
        if name == "labels":
            arrays["y_train"] = np.roll(arrays["y_train"], 1)
        elif name == "pixels":
            arrays["x_train"] = 255 - arrays["x_train"]
        else:
            arrays["x_train"], arrays["y_train"] = arrays["x_train"][:60], arrays["y_train"][:60]
        np.savez(data, **arrays)
        before = here.look()
        done = server.run([*argv, "--resume"], here)
        if name == "pixels" and done.code == 0:
            pytest.skip("pixels of samples with the same names are not compared")
        no_traceback(done)
        assert done.code == 2, f"not refused: {done}"
        assert not difference(essential(before), essential(here.look()))
