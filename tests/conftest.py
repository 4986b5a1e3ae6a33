"""Where the real data are, and one thread of fairness: tests run on two cores."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
torch.set_flush_denormal(True)


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


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


# Runs a module or script as python would, but tears its process down in the middle of writing a file of that name.
MID_WRITE = """
import fnmatch, os, runpy, signal, sys
pattern, *sys.argv = sys.argv[1:]
sync = os.fsync

def torn(handle):
    if fnmatch.fnmatch(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")), pattern):
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)

os.fsync = torn
if sys.argv[0] == "-m":
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def killed() -> Callable[..., None]:
    """``killed(command, work_dir, pattern)``: runs a python command and sends it SIGKILL once a file of that pattern is
    there, at a random moment; or, if the pattern is a temporary file's (".x.*.tmp"), with half of that file written."""

    def killed(command: list[str], work_dir: Path, pattern: str) -> None:
        torn = pattern.startswith(".")
        if torn:
            command = [command[0], "-c", MID_WRITE, pattern, *command[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not torn and not any(work_dir.glob(pattern)):
            assert process.poll() is None, f"the run ended before {pattern} was there: {process.communicate()[1]!r}"
            time.sleep(0.002)
        if not torn:
            time.sleep(random.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        said = process.communicate()[1]
        assert process.returncode in (0, -signal.SIGKILL), said
        assert not torn or (process.returncode and any(work_dir.glob(pattern))), f"no {pattern} was written: {said!r}"

    return killed
