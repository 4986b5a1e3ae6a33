"""Runs killed in steps, writes and evaluation: no incomplete file, and the same bits after a resume."""

import os
import random
import re
import signal
import time

import pytest
from commands import valid
from faults import WATCH
from harness import Done, World, is_done, no_half_file, no_leftovers, no_traceback
from killing import after_the_kill, names_in, watched
from kit import TASKS

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

SEED = int(os.environ.get("DELETE_TASKS_FAULTS_SEED", time.time_ns() % 10**6))
KINDS = (
    r"step_\d+\.pth|weights\.safetensors|erased\.pth|model\.json|results\.json|record\.\w+|samples\.txt|\.png|\.jpg|\.jsonl|"
    "last_checkpoint"
)


def kinds_of(operations: list[str]) -> dict[str, list[int]]:
    """Return the numbers of the renames that end a write, by kind of file."""
    found: dict[str, list[int]] = {}
    for number, operation in enumerate(operations):
        kind = re.search(rf"^os.rename .*?({KINDS})$", operation)
        if kind:
            found.setdefault(re.sub(r"\d+", "N", kind[1]), []).append(number)
    return found


def kill(server, kit, task: str, here: World, **how) -> Done:
    return server.run(kit.argv(task, "W"), here, before=WATCH, seed=SEED, **how)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("number", range(20))
def test_at_random_moments(server, here, kit, references, task, number):
    """Before a random file operation, or up to 0.4 s after it: in the run, in writes, in evaluation."""
    reference, chance = references(task), random.Random(f"{SEED} {number}")
    at, within = chance.randrange(len(reference.operations)), chance.choice([0, 0.4])
    killed = kill(server, kit, task, here, at=at, within=within)
    assert killed.code in (-signal.SIGKILL, 0), f"seed {SEED}, operation {reference.operations[at]}: {killed}"
    after_the_kill(server, kit, task, here, killed, reference, "--resume")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("part", range(20))
def test_before_every_file_operation(server, here, kit, references, task, part):
    """At twenty places of a run, which differ between tasks; the run is resumed or started again."""
    reference = references(task)
    at = TASKS.index(task) + part * max(4, len(reference.operations) // 20)
    if at >= len(reference.operations):
        pytest.skip("the run has fewer operations")
    killed = kill(server, kit, task, here, at=at)
    after_the_kill(server, kit, task, here, killed, reference, *["--resume"] * (at % 2))


@pytest.mark.parametrize("task", TASKS)
def test_in_each_kind_of_write(server, world, kit, references, task):
    """Half of the temporary file is written: state, weights, model.json, results, record, picture, log."""
    reference = references(task)
    kinds = kinds_of(reference.operations)
    assert {"results.json", "record.json", "record.html", "samples.txt"} <= kinds.keys() and len(kinds) >= 8
    for kind, numbers in kinds.items():
        here, at = world(), random.Random(f"{SEED} {kind}").choice(numbers)
        killed = kill(server, kit, task, here, at=at, torn=True)
        assert killed.code == -signal.SIGKILL, f"{kind}: {killed}"
        after_the_kill(server, kit, task, here, killed, reference, "--resume")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("number", range(6))
def test_signals_from_outside(server, here, kit, references, task, sent, number):
    """At random times; the status is the shell's, and the message says how to resume, unless nothing has begun."""
    reference = references(task)
    seconds = random.Random(f"{SEED} {sent} {number}").random() * reference.seconds
    killed = server.run(kit.argv(task, "W"), here, stop=(sent, seconds))
    expected = (130,) if sent == signal.SIGINT else (-sent, 128 + sent)
    assert killed.code in (0, *expected), f"seed {SEED}: {killed}"
    if killed.code > 0:
        assert "--resume" in killed.err, f"it does not say how to go on: {killed}"
    after_the_kill(server, kit, task, here, killed, reference, "--resume")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("number", range(3))
def test_killed_again_and_again(server, here, kit, references, task, number):
    """Each kill ends the run that resumes the previous one."""
    reference, chance = references(task), random.Random(f"{SEED} {number}")
    for at in sorted(chance.sample(range(len(reference.operations)), 3)):
        killed = server.run(kit.argv(task, "W", "--resume"), here, before=WATCH, at=at)
        no_traceback(killed)
        no_half_file(here.cwd)
    after_the_kill(server, kit, task, here, killed, reference, "--resume")


OTHERS = ("images train", "images import", "backdoor poison", "backdoor find", "faces enroll", "attention")


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands(server, world, kit, name):
    """Killed in a write, they leave only complete files; started again, they finish."""
    argv, whole = valid(kit)[name], world()
    operations = watched(server, argv, whole)
    for at in range(0, len(operations), max(1, len(operations) // 8)):
        here = world()
        no_traceback(server.run(argv, here, before=WATCH, at=at, torn=True))
        no_half_file(here.cwd)
        again = server.run(argv, here)
        if again.code == 2 and "--overwrite" in again.err:  # a whole file of its own was there
            again = server.run([*argv, "--overwrite"], here)
        is_done(again)
        no_leftovers(here)
        assert names_in(here.cwd) == names_in(whole.cwd), operations[at]
