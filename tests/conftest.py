"""Fixtures of all tests: real data and networks, commands in other processes, killed and interrupted runs."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

os.environ.pop("COLUMNS", None)  # print as to a pipe; a parallel run of the tests sets the width of its terminal
REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests" / name) for name in ("kit", "faults")]  # modules that tests share
sys.path.append(str(REPOSITORY / "tools"))  # at the end: one is called test
torch.set_flush_denormal(True)


# Half a minute and more each, the longest first; the first of them needs no kit, for which a second worker would wait.
LONGEST = ("delete_mmseg/test_command", "docs/test_guides", "delete_mmseg/test_demo", "delete_images/test_commands",
           "delete_faces/test_retain", "report/record/test_limits", "delete_faces/test_networks")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, then those with slow tests: pytest-xdist gives its workers whole files in this
    order, and the last ones to end should be short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = {REPOSITORY / "tests" / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (first.get(item.path, len(first)), item.path not in slow))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and networks; a test that needs it is skipped without it, or fails where it is required."""
    folder = Path(os.environ.get("DELETE_TASKS_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "weights").is_dir():
        reason = f"no real data at {folder}; set DELETE_TASKS_SHARED to the folder that holds data/ and weights/"
        if os.environ.get("DELETE_TASKS_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_face_cache(tmp_path_factory):
    """Cache found faces for the session, outside of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELETE_TASKS_FACE_CACHE", str(tmp_path_factory.mktemp("face_cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _what_runs_say_they_did_is_what_their_tensors_say():
    """Every run of this process, of any test, is checked at its end."""
    from helpers import check_done

    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    train = UnlearnRunner.train

    def checked(self):
        model = train(self)
        check_done(self)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnlearnRunner, "train", checked)
        yield


@pytest.fixture(scope="session")
def server():
    """Runs commands and code in children of a process that has imported everything, see tests/faults/harness.py."""
    from harness import Server

    found = Server()
    yield found
    found.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str], Callable[[Callable[[Path], object]], Path]]:
    """``once(name)(make)``: a folder that ``make(folder)`` fills, once for all of pytest-xdist's workers; do not change it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def made_by(name: str, make: Callable[[Path], object]) -> Path:
        with open(base / f"{name}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.fstat(lock.fileno()).st_size:
                (base / name).mkdir()
                make(base / name)
                lock.write("made")
        return base / name

    return lambda name: partial(made_by, name)


@pytest.fixture(scope="session")
def kit(once):
    """Small trained models and data of all four tasks; no test may change them."""
    from harness import difference, snapshot
    from kit import Kit, build

    made = Kit(once("kit")(build))
    before = snapshot(made.root)
    yield made
    changed = difference(before, snapshot(made.root))
    assert not changed, f"a command changed its input: {changed}"


@pytest.fixture(scope="session")
def resnet20(shared, tmp_path_factory) -> Path:
    """Model folder of He et al.'s ResNet-20 on CIFAR-10, 91.7% right."""
    from delete_images.models.class_names import CIFAR10_CLASSES
    from delete_images.models.model_file import Preprocessing, import_checkpoint

    folder = tmp_path_factory.mktemp("models") / "resnet20"
    weights = shared / "weights" / "cifar10_resnet20-12fca82f.th"
    return import_checkpoint(weights, folder, "cifar_resnet20", CIFAR10_CLASSES, Preprocessing.named("imagenet", 32))


@pytest.fixture(scope="session")
def few(shared, tmp_path_factory) -> Callable[[int, int], str]:
    """``few(train, test)``: an .npz with this number of images of each CIFAR-10 class."""
    import numpy as np

    from delete_images.data.opening import open_data

    folder, whole = tmp_path_factory.mktemp("few"), f"cifar10:{shared / 'data' / 'cifar10'}"

    def few(train: int, test: int) -> str:
        path = folder / f"{train}_{test}.npz"
        if not path.exists():
            arrays = {}
            for split, count in (("train", train), ("test", test)):
                # Test images stand for both: all of them lie in files that are read in a moment.
                data = open_data(f"{whole}?limit=1000", "test")
                part = slice(-count, None) if split == "train" else slice(count)
                kept = np.concatenate([np.flatnonzero(data.labels == i)[part] for i in range(10)])
                arrays[f"x_{split}"] = np.stack([data[int(i)][0] for i in kept])
                arrays[f"y_{split}"] = data.labels[kept]
            np.savez(path, classes=np.array(data.class_names), **arrays)
        return str(path)

    return few


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


# Runs a module or script as python would, but has its process killed: with half of a temporary file of that name written, or at
# a random moment soon after a file of that name was put in place. From inside, since a watcher outside may come too late.
KILLED = """
import fnmatch, os, random, runpy, signal, sys, threading, time
pattern, within, *sys.argv = sys.argv[1:]
sync, replace = os.fsync, os.replace

def torn(handle):
    if fnmatch.fnmatch(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")), pattern):
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)

def end():
    time.sleep(random.random() * float(within))
    os.kill(os.getpid(), signal.SIGKILL)

def placed(source, target):
    replace(source, target)
    if fnmatch.fnmatch(os.path.basename(target), pattern):
        threading.Thread(target=end, daemon=True).start()

os.fsync, os.replace = torn, placed
if sys.argv[0] == "-m":
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def killed() -> Callable[..., None]:
    """``killed(command, pattern, within)``: runs a python command that is sent SIGKILL with half of a file of that name
    written (".step_4.pth.*.delete-tasks.tmp"), or up to ``within`` seconds after it was put in place ("step_4.pth")."""

    def killed(command: list[str], pattern: str, within: float = 0.0) -> None:
        command = [command[0], "-c", KILLED, pattern, str(within), *command[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, f"it was not killed at {pattern}: {done.stderr[-2000:]}"

    return killed


@pytest.fixture
def pull_the_plug(monkeypatch) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """``with pull_the_plug(3):`` the run in it breaks off in the step after so many, before that step's state is saved."""
    from delete_tasks.methods.base import UnlearnHook

    @contextlib.contextmanager
    def pull_the_plug(after: int) -> Iterator[None]:
        def breaks(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == after:
                raise KeyboardInterrupt("the plug is pulled")

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(UnlearnHook, "after_train_iter", breaks)
            yield

    return pull_the_plug


@pytest.fixture
def fails(capsys, monkeypatch):
    """``fails(fact, *words)``: the command ends with status 2 and one message whose words match; returns the message. No word of
    it is broken at 80 columns."""
    from helpers import run

    def fails(fact: str, *words: object) -> str:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            run(*words, status=2)
        error = capsys.readouterr().err
        broken = [line for line in error.splitlines() if len(line) > 80 and " " in line.strip()]
        assert not broken, broken
        error = " ".join(error.replace("│", " ").split())
        assert re.search(fact, error), error
        return error

    return fails


@pytest.fixture
def tells(capsys):
    """``tells(*words)``: what a command that ends well prints, its white space folded."""
    from helpers import run

    def tells(*words: object, status: int | tuple[int, ...] = 0) -> str:
        capsys.readouterr()
        run(*words, status=status)
        return " ".join(capsys.readouterr().out.split())

    return tells


@pytest.fixture
def publish_anyway(monkeypatch) -> None:
    """Runs of a step or two, which forget nothing, publish their model: for tests of something else."""
    monkeypatch.setattr("delete_tasks.runner.forget_check.LEAST_CHANGE", -1.0)
