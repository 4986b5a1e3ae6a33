"""Where the real data are, and one thread of fairness: tests run on two cores."""

from __future__ import annotations

import os
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
