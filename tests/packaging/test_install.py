"""The wheel in new environments, without constraints, as pip installs it for a user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("installed.py")


@pytest.mark.wheel
@pytest.mark.slow
@pytest.mark.parametrize("extra", ["images", "all"])
def test_install(extra, wheel, tmp_path):
    own = ("PYTHON", "DELETE_TASKS_", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    environment |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}

    def run(*words: str | Path) -> str:
        done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-3000:]}{done.stderr[-5000:]}"
        return done.stdout

    folder = tmp_path / "empty"
    folder.mkdir()
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", f"delete-tasks[{extra}] @ {wheel.as_uri()}")
    run(python, "-m", "pip", "check")
    installed = run(python, "-m", "pip", "list", "--format", "freeze").lower()
    assert ("opencv-python==" in installed) == (extra == "all")  # MMCV's; another build lies over it
    assert run(python, SCRIPT, extra).endswith("fine\n")
