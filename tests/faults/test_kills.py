"""Runs that are killed, in steps, in each kind of write, in evaluation: no half file, and resumed they give the same bits."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from faults import WATCH
from harness import Done, World, is_done, no_leftovers, no_traceback
from kit import PUBLISHED, TASKS
from PIL import Image

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

SEED = int(os.environ.get("DELETE_TASKS_FAULTS_SEED", time.time_ns() % 10**6))
KINDS = (
    r"step_\d+\.pth|weights\.safetensors|erased\.pth|model\.json|results\.json|record\.\w+|samples\.txt|\.png|\.jpg|\.jsonl|"
    "last_checkpoint"
)


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its file operations, its folder, its weights, and how long it took."""

    operations: list[str]
    names: set[str]
    weights: dict[str, torch.Tensor]
    results: dict
    seconds: float


def weights_of(task: str, work_dir: Path) -> dict[str, torch.Tensor]:
    path = work_dir / PUBLISHED[task]
    if path.is_file():
        return torch.load(path, weights_only=True)["state_dict"]
    from delete_images.model_file import load_model

    return load_model(path)[0].state_dict()


def names_in(folder: Path) -> set[str]:
    return {re.sub(r"\d{8}_\d{6}", "TIME", path.relative_to(folder).as_posix()) for path in folder.rglob("*")}


def timeless(results: dict) -> dict:
    """results.json without what differs from run to run: seconds, memory, paths."""
    details = {name: value for name, value in results["details"].items() if name != "still_holding"}
    found = {name: value for name, value in results.items() if not re.search("seconds|memory", name)}
    text = json.dumps(found | {"details": details})
    return json.loads(re.sub(r'("seconds[a-z_]*": )[\d.]+', r"\1 0", re.sub(r"/[^\" ]*/world\d+", "", text)))


@pytest.fixture(scope="module")
def references(server, kit, tmp_path_factory):
    """Task -> its uninterrupted run, made when first asked for."""
    found: dict[str, Reference] = {}

    def get(task: str) -> Reference:
        if task not in found:
            here = World(tmp_path_factory.mktemp(task) / "world0")
            begin = time.monotonic()
            done = server.run(kit.argv(task, "W"), here, before=WATCH, watch=str(here.root / "watch"))
            seconds = time.monotonic() - begin
            is_done(done)
            work_dir = here.cwd / "W"
            results = timeless(json.loads((work_dir / "results.json").read_text()))
            operations = (here.root / "watch").read_text().splitlines()
            found[task] = Reference(operations, names_in(work_dir), weights_of(task, work_dir), results, seconds)
        return found[task]

    return get


def no_half_file(here: World) -> None:
    """Whatever bears its final name is whole."""
    for path in here.cwd.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".json" and "vis_data" not in path.parts and not re.match(r"\d{8}_", path.name):
            json.loads(path.read_text())
        elif path.suffix == ".pth":
            torch.load(path, weights_only=True)
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                picture.load()
        elif path.name == "weights.safetensors" and (path.parent / "model.json").exists():
            from delete_images.model_file import load_model

            load_model(path.parent)
        elif path.suffix == ".jsonl":
            assert path.read_bytes().endswith(b"\n"), f"{path.name} has a torn last line"
            [json.loads(line) for line in path.read_text().splitlines()]


def after_the_kill(server, kit, task: str, here: World, killed: Done, reference: Reference, *more: str) -> None:
    """What holds when a run was ended from outside, and once it was resumed."""
    no_traceback(killed)
    no_half_file(here)
    # mmengine's copies of configs are made before there is a work dir; the next command deletes them, see no_leftovers.
    left = [path.name for path in here.tmp.rglob("*") if path.is_file() and "delete_tasks_config_" not in str(path)]
    assert not left, f"left in the temporary folder: {left}"
    done = server.run(kit.argv(task, "W", *more), here)
    is_done(done)
    no_leftovers(here)
    work_dir = here.cwd / "W"
    found = weights_of(task, work_dir)
    assert found.keys() == reference.weights.keys()
    differing = [name for name, value in reference.weights.items() if not torch.equal(value, found[name])]
    assert not differing, f"other weights than the uninterrupted run's: {differing[:3]}"
    names = names_in(work_dir)
    assert names == reference.names, f"missing {reference.names - names}, left {names - reference.names}"
    results = timeless(json.loads((work_dir / "results.json").read_text()))
    wrong = [name for name in reference.results if results.get(name) != reference.results[name]]
    assert not wrong, f"results.json differs in {wrong}"
    verified = server.run(["record", "verify", str(work_dir)], here)
    assert verified.code == 0, f"the record does not verify: {verified.out[-600:]}{verified.err[-300:]}"


def kinds_of(operations: list[str]) -> dict[str, list[int]]:
    """Kind of write -> numbers of the renames that end one."""
    found: dict[str, list[int]] = {}
    for number, operation in enumerate(operations):
        kind = re.search(rf"^os.rename .*?({KINDS})$", operation)
        if kind:
            found.setdefault(re.sub(r"\d+", "N", kind[1]), []).append(number)
    return found


def long(fast: str = "") -> list:
    return [pytest.param(task, marks=[] if task == fast else pytest.mark.faults) for task in TASKS]


def kill(server, kit, task: str, here: World, **how) -> Done:
    how = {"seed": SEED, **how}
    return server.run(kit.argv(task, "W"), here, before=WATCH, **how)


@pytest.mark.parametrize("count", [pytest.param(1, id="fast"), pytest.param(20, id="long", marks=pytest.mark.faults)])
@pytest.mark.parametrize("task", TASKS)
def test_at_random_moments(server, world, kit, references, task, count):
    """Before a random file operation, or up to 0.4 s after it: in the run, in writes, in evaluation."""
    reference, chance = references(task), random.Random(SEED)
    for _ in range(count):
        here, at = world(), chance.randrange(len(reference.operations))
        within = chance.choice([0, 0.4])
        killed = kill(server, kit, task, here, at=at, within=within)
        assert killed.code in (-signal.SIGKILL, 0), f"{killed}"
        after_the_kill(server, kit, task, here, killed, reference, "--resume")
        shutil.rmtree(here.root)


@pytest.mark.parametrize("task", long())
def test_before_every_file_operation(server, world, kit, references, task):
    """Every fourth operation of a run, so that over the four tasks each kind has its turn; resumed, or simply begun again."""
    reference = references(task)
    for at in range(TASKS.index(task), len(reference.operations), max(4, len(reference.operations) // 20)):
        here = world()
        more = ["--resume"] if at % 2 else []
        killed = kill(server, kit, task, here, at=at)
        after_the_kill(server, kit, task, here, killed, reference, *more)
        shutil.rmtree(here.root)


@pytest.mark.parametrize("part", [pytest.param(5, id="fast"), pytest.param(1, id="long", marks=pytest.mark.faults)])
@pytest.mark.parametrize("task", long("backdoor"))
def test_in_each_kind_of_write(server, world, kit, references, task, part):
    """With half of the temporary file written: state, weights, model.json, results, record, picture, log."""
    reference = references(task)
    kinds = kinds_of(reference.operations)
    assert {"results.json", "record.json", "record.html", "samples.txt"} <= kinds.keys() and len(kinds) >= 8, sorted(
        kinds
    )
    for kind, numbers in list(kinds.items())[::part]:
        here, at = world(), random.Random(f"{SEED} {kind}").choice(numbers)
        killed = kill(server, kit, task, here, at=at, torn=True)
        assert killed.code == -signal.SIGKILL, f"{killed}"
        after_the_kill(server, kit, task, here, killed, reference, "--resume")
        shutil.rmtree(here.root)


@pytest.mark.parametrize("count", [pytest.param(1, id="fast"), pytest.param(6, id="long", marks=pytest.mark.faults)])
@pytest.mark.parametrize("task", long("backdoor"))
def test_signals_from_outside(server, world, kit, references, task, count):
    """SIGKILL, SIGTERM and SIGINT at random times. After Ctrl-C: status 130, and how to resume."""
    reference, chance = references(task), random.Random(SEED + 1)
    numbers = (signal.SIGINT,) if count == 1 else (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        for _ in range(count):
            here, seconds = world(), chance.random() * reference.seconds
            killed = server.run(kit.argv(task, "W"), here, stop=(number, seconds))
            expected = {signal.SIGINT: (130,), signal.SIGTERM: (-15, 143, 130), signal.SIGKILL: (-9,)}[number]
            assert killed.code in (0, *expected), f"{killed}"
            assert number != signal.SIGINT or not killed.code or "--resume" in killed.err, (
                f"it does not say how to go on: {killed}"
            )
            after_the_kill(server, kit, task, here, killed, reference, "--resume")
            shutil.rmtree(here.root)


@pytest.mark.parametrize("task", long())
def test_killed_again_and_again(server, world, kit, references, task):
    """Three times, each time while the run before it is resumed."""
    reference, chance = references(task), random.Random(SEED + 2)
    for _ in range(3):
        here = world()
        ats = sorted(chance.sample(range(len(reference.operations)), 3))
        for at in ats:
            killed = server.run(kit.argv(task, "W", "--resume"), here, before=WATCH, at=at)
            no_traceback(killed)
            no_half_file(here)
        after_the_kill(server, kit, task, here, killed, reference, "--resume")
        shutil.rmtree(here.root)


# What is no run with states to resume

ERASE = """
import os, signal, threading, time
import torch, delete_tasks
from delete_images.model_file import load_model
model, spec = load_model(case["model"])
images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
def end():
    time.sleep(case["after"])
    os.kill(os.getpid(), case["signal"])
threading.Thread(target=end, daemon=True).start()
delete_tasks.erase(model, images, classes=["green"], class_names=list(spec.classes), steps=400, device="cpu")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_erase_leaves_no_teacher_behind(server, world, kit, number):
    for after in (0.15, 0.6):
        here = world()
        done = server.run([], here, code=ERASE, model=kit.path("images/model"), after=after, signal=int(number))
        assert done.code == -number, f"{done}"
        found = [path for path in (*here.tmp.rglob("*"), *here.cwd.rglob("*")) if path.is_file()]
        left = [
            path.name
            for path in found
            if path.stat().st_size > 50_000 or path.suffix in (".safetensors", ".pth", ".tmp")
        ]
        assert not left, f"left behind: {left}"


COMMANDS = {
    "images train": ["images", "train", "--like", "{images}", "--data", "{data}", "--epochs", "2", "--work-dir", "W"],
    "images import": ["images", "import", "{images}/weights.safetensors", "W/model", "--architecture", "cifar_resnet20",
                      "--classes", "red", "green", "blue", "grey", "--size", "16"],
    "backdoor poison": ["backdoor", "poison", "--data", "{data}", "--trigger", "badnets", "--target", "red", "--out", "W/p.npz"],
    "backdoor find": ["backdoor", "find", "--model", "{backdoor}", "--data", "{poisoned}", "--out", "W/ranking.json"],
    "faces enroll": ["faces", "enroll", "--photos", "{photos}", "--aligned", "--backbone", "cifar_resnet20", "--out", "W/model"],
    "attention": ["attention", "--original", "{images}", "--erased", "{images}", "--class", "green", "{data}?limit=12",
    "--limit", "2",
                  "--out", "W/picture.png"],
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "backdoor poison" else pytest.mark.faults) for n in COMMANDS]
)
def test_other_commands(server, world, kit, name):
    """Killed in each write, they leave whole files alone, and begun again they finish."""
    places = {
        "images": kit.path("images/model"),
        "data": kit.path("images/data.npz"),
        "photos": kit.path("faces/photos"),
    }
    places |= {"backdoor": kit.path("backdoor/model"), "poisoned": kit.path("backdoor/poisoned.npz")}
    argv = [word.format(**places) for word in COMMANDS[name]]
    whole = world()
    is_done(server.run(argv, whole, before=WATCH, watch=str(whole.root / "watch")))
    operations = (whole.root / "watch").read_text().splitlines()
    for at in range(0, len(operations), max(1, len(operations) // 8)):
        here = world()
        no_traceback(server.run(argv, here, before=WATCH, at=at, torn=True))
        no_half_file(here)
        again = server.run(argv, here)
        if again.code == 2 and again.err.strip().endswith(
            "--overwrite to replace it"
        ):  # a whole file of its own was there
            again = server.run([*argv, "--overwrite"], here)
        is_done(again)
        no_leftovers(here)
        assert names_in(here.cwd) == names_in(whole.cwd)
