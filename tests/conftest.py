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


@pytest.fixture(scope="session")
def killed() -> Callable[..., None]:
    """``killed(command, work_dir, pattern)``: runs a command and sends it SIGKILL once a file of that pattern is there."""

    def killed(command: list[str], work_dir: Path, pattern: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not any(work_dir.glob(pattern)):
            assert process.poll() is None, f"the run ended before {pattern} was there: {process.communicate()[1]!r}"
            time.sleep(0.0002)
        if not pattern.startswith("."):  # a temporary file does not wait
            time.sleep(random.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    return killed
